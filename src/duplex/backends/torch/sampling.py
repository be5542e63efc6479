"""Choosing tokens: temperature, top-k and the contract's seeded noise, for every row by its own options.

Nothing here waits for the device: options lie in tensors with a slot axis, and what the host must know to leave work
out (does any row sample at all? how deep is the deepest top-k?) it knows from the options it was given.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from duplex import noise
from duplex.backends.torch.state import Declared
from duplex.frame_model import SessionOptions

__all__ = ["TEXT_STREAM", "Sampler", "gumbel"]

TEXT_STREAM = 0
_LOW = 0xFFFFFFFF


def gumbel(keys: Tensor, step: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return :func:`duplex.noise.gumbel` for a batch: float32 ``[batch, size]`` for each stream of that size.

    ``keys`` int64 ``[batch, rounds, 2]`` holds each row's round keys, ``step`` int64 ``[batch]``. All streams are drawn
    in one pass. Words are held in int64: the product of two of them keeps its low 64 bits, which are all it has.
    """
    blocks = [-(-size // 4) for size in sizes]
    c1 = torch.cat([torch.full((count,), stream, device=step.device) for stream, count in enumerate(blocks)])
    c2 = torch.cat([torch.arange(count, device=step.device) for count in blocks])
    c0, c3 = step[:, None], torch.zeros_like(c2)
    for key in keys.unbind(1):
        k0, k1 = key[:, :1], key[:, 1:]
        first, second = c0 * noise.MULTIPLIERS[0], c2 * noise.MULTIPLIERS[1]
        c0, c2 = ((second >> 32) ^ c1 ^ k0) & _LOW, ((first >> 32) ^ c3 ^ k1) & _LOW
        c1, c3 = second & _LOW, first & _LOW
    words = torch.stack([c0, c1, c2, c3], dim=-1).flatten(-2)
    u = ((words >> 8).double() + 0.5) / 2**24
    drawn = -torch.log(-torch.log(u)).float()
    starts = [4 * sum(blocks[:stream]) for stream in range(len(blocks))]
    return [drawn[:, start : start + size] for start, size in zip(starts, sizes, strict=True)]


@attrs.frozen(eq=False)
class Sampler:
    """The options of a batch of rows, and the noise of one step.

    ``text`` and ``audio`` are float32 ``[batch, 2]``: temperature (0 is greedy) and top-k (0 is unlimited).
    """

    text: Tensor
    audio: Tensor
    text_top_k: int
    """The deepest top-k of the rows, as far as any is limited."""
    audio_top_k: int
    drawn: list[Tensor] | None
    """float32 ``[batch, vocabulary]`` for the text and each of the agent's streams; ``None`` if every row is greedy."""

    @staticmethod
    def declare() -> dict[str, Declared]:
        """Return the tensors that hold each slot's options."""
        return {
            "options.keys": Declared((noise.ROUNDS, 2), torch.int64),
            "options.text": Declared((2,), torch.float32),
            "options.audio": Declared((2,), torch.float32),
        }

    @staticmethod
    def write(tensors: dict[str, Tensor], options: SessionOptions) -> None:
        """Put one slot's options (complete, no ``None``) into the tensors of that slot."""
        assert options.seed is not None
        tensors["options.keys"].copy_(torch.tensor([noise.round_keys(options.seed)]))
        for name, values in (
            ("text", (options.text_temperature, options.text_top_k)),
            ("audio", (options.temperature, options.top_k)),
        ):
            tensors[f"options.{name}"].copy_(torch.tensor([[float(value or 0) for value in values]]))

    @classmethod
    def prepare(
        cls,
        tensors: dict[str, Tensor],
        options: Sequence[SessionOptions],
        step: Tensor,
        *,
        text_vocabulary: int,
        audio_vocabulary: int,
        agent_streams: int,
    ) -> "Sampler":
        """Draw the noise of one step for rows with these options."""
        drawn = None
        if any(each.text_temperature or each.temperature for each in options):
            sizes = [text_vocabulary] + [audio_vocabulary] * agent_streams
            drawn = gumbel(tensors["options.keys"], step, sizes)
        return cls(
            tensors["options.text"],
            tensors["options.audio"],
            min(text_vocabulary, max((each.text_top_k or 0 for each in options), default=0)),
            min(audio_vocabulary, max((each.top_k or 0 for each in options), default=0)),
            drawn,
        )

    def choose_text(self, logits: Tensor) -> Tensor:
        """Return int64 ``[batch]`` for float32 logits ``[batch, text_vocabulary]``."""
        return _choose(logits, self.text, self.text_top_k, self._noise(TEXT_STREAM))

    def choose_audio(self, logits: Tensor, stream: int) -> Tensor:
        """Return int64 ``[batch]`` for codebook ``stream``'s float32 logits ``[batch, audio_vocabulary]``."""
        return _choose(logits, self.audio, self.audio_top_k, self._noise(1 + stream))

    def _noise(self, stream: int) -> Tensor | None:
        return None if self.drawn is None else self.drawn[stream]


def _choose(logits: Tensor, options: Tensor, deepest: int, drawn: Tensor | None) -> Tensor:
    """Choose a token per row. Logits equal to the k-th largest are all kept, so that order cannot matter."""
    if drawn is None:
        return logits.argmax(dim=-1)
    temperature, top_k = options[:, :1], options[:, 1:]
    scores = logits / temperature.clamp(min=torch.finfo(torch.float32).tiny) + drawn
    if deepest:
        largest = logits.topk(deepest, dim=-1).values
        threshold = largest.gather(1, (top_k.long() - 1).clamp(min=0, max=deepest - 1))
        scores = scores.masked_fill((logits < threshold) & (top_k > 0), float("-inf"))
    return torch.where(temperature > 0, scores, logits).argmax(dim=-1)
