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


def gumbel(seed: Tensor, step: Tensor, streams: Sequence[int], size: int) -> Tensor:
    """Return :func:`duplex.noise.gumbel` for a batch, float32 ``[batch, len(streams), size]``.

    ``seed`` int64 ``[batch]`` holds the 64 bits of each row's seed, ``step`` int64 ``[batch]``. Words are held in
    int64: the product of two of them keeps its low 64 bits, which are all it has.
    """
    blocks = -(-size // 4)
    device = step.device
    shape = (step.shape[0], len(streams), blocks)
    c0 = step.view(-1, 1, 1).expand(shape)
    c1 = torch.tensor(streams, device=device).view(1, -1, 1).expand(shape)
    c2 = torch.arange(blocks, device=device).expand(shape)
    c3 = torch.zeros((), dtype=torch.int64, device=device)
    k0, k1 = (seed & _LOW).view(-1, 1, 1), ((seed >> 32) & _LOW).view(-1, 1, 1)
    for _ in range(noise.ROUNDS):
        first, second = c0 * noise.MULTIPLIERS[0], c2 * noise.MULTIPLIERS[1]
        c0, c2 = ((second >> 32) & _LOW) ^ c1 ^ k0, ((first >> 32) & _LOW) ^ c3 ^ k1
        c1, c3 = second & _LOW, first & _LOW
        k0, k1 = (k0 + noise.WEYL[0]) & _LOW, (k1 + noise.WEYL[1]) & _LOW
    words = torch.stack([c0, c1, c2, c3], dim=-1).flatten(-2)[..., :size]
    u = ((words >> 8).double() + 0.5) / 2**24
    return -torch.log(-torch.log(u)).float()


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
    text_noise: Tensor | None
    """float32 ``[batch, text_vocabulary]``; ``None`` where every row is greedy."""
    audio_noise: Tensor | None
    """float32 ``[batch, agent_streams, audio_vocabulary]``."""

    @staticmethod
    def declare() -> dict[str, Declared]:
        """Return the tensors that hold each slot's options."""
        return {
            "options.seed": Declared((), torch.int64),
            "options.text": Declared((2,), torch.float32),
            "options.audio": Declared((2,), torch.float32),
        }

    @staticmethod
    def write(tensors: dict[str, Tensor], options: SessionOptions) -> None:
        """Put one slot's options (complete, no ``None``) into the tensors of that slot."""
        assert options.seed is not None
        tensors["options.seed"].fill_(options.seed - 2**64 if options.seed >= 2**63 else options.seed)
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
        seed = tensors["options.seed"]
        text_noise = audio_noise = None
        if any(each.text_temperature for each in options):
            text_noise = gumbel(seed, step, [TEXT_STREAM], text_vocabulary)[:, 0]
        if agent_streams and any(each.temperature for each in options):
            audio_noise = gumbel(seed, step, range(1, 1 + agent_streams), audio_vocabulary)
        return cls(
            tensors["options.text"],
            tensors["options.audio"],
            min(text_vocabulary, max((each.text_top_k or 0 for each in options), default=0)),
            min(audio_vocabulary, max((each.top_k or 0 for each in options), default=0)),
            text_noise,
            audio_noise,
        )

    def choose_text(self, logits: Tensor) -> Tensor:
        """Return int64 ``[batch]`` for float32 logits ``[batch, text_vocabulary]``."""
        return _choose(logits, self.text, self.text_top_k, self.text_noise)

    def choose_audio(self, logits: Tensor, stream: int) -> Tensor:
        """Return int64 ``[batch]`` for codebook ``stream``'s float32 logits ``[batch, audio_vocabulary]``."""
        drawn = None if self.audio_noise is None else self.audio_noise[:, stream]
        return _choose(logits, self.audio, self.audio_top_k, drawn)


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
