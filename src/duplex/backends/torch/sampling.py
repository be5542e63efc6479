"""Token sampling: temperature, top-k and the contract's seeded noise, for every row by its own options.

Nothing here waits for the device: options lie in tensors with a slot axis, and what the host must know to leave work
out (does any row sample at all? how deep is the deepest top-k?) it knows from the options it was given.
"""

from collections.abc import Sequence
from typing import TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

from duplex.backends.shared import noise
from duplex.backends.shared.codebooks import EVERY, computed_codebooks
from duplex.backends.torch import kernels, torchscript
from duplex.backends.torch.state import StateSpec
from duplex.options import SessionOptions

__all__ = ["TEXT_STREAM", "Counters", "Kind", "Sampler", "Sampling", "gumbel"]

Kind: TypeAlias = tuple[bool, int, bool]
"""Whether rows sample, how many codes are computed, and whether there are adapters."""
TEXT_STREAM = 0
_LOW = 0xFFFFFFFF


@attrs.frozen
class Sampling:
    """What the host must know of the options of all rows of a step, to leave work out."""

    drawn: bool = False
    """Whether any row samples at all."""
    text_top_k: int | Tensor = 0
    """The deepest top-k of any row, 0 where none is limited. A recorded step has it as a tensor, read when it runs."""
    audio_top_k: int | Tensor = 0
    codebooks: int = EVERY
    """How many codes are computed."""
    adapted: bool = False
    """Whether any row has an adapter of its own."""

    @property
    def kind(self) -> Kind:
        """What a recorded step, or a captured graph, is made for; the rest it reads when it runs."""
        return self.drawn, self.codebooks, self.adapted

    @classmethod
    def of(cls, options: Sequence[SessionOptions]) -> "Sampling":
        """Return what these rows need together."""
        alike = cls(
            codebooks=computed_codebooks(options),
            adapted=any(each.adapter is not None for each in options),
        )
        if not any(each.text_temperature or each.temperature for each in options):
            return alike
        return attrs.evolve(
            alike,
            drawn=True,
            text_top_k=max(each.text_top_k or 0 for each in options),
            audio_top_k=max(each.top_k or 0 for each in options),
        )


@attrs.frozen(eq=False)
class Counters:
    """The words of Philox's counters that are the same in every step, for streams of these sizes; on the device."""

    sizes: tuple[int, ...]
    streams: Tensor
    """int64 ``[blocks]``"""
    blocks: Tensor
    """int64 ``[blocks]``: the number of each in its stream."""

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> "Counters":
        """Return the counters of streams of so many tokens each."""
        counts = [-(-size // 4) for size in sizes]
        streams = np.repeat(np.arange(len(counts)), counts)
        blocks = np.concatenate([np.arange(count) for count in counts])
        return cls(tuple(sizes), torch.tensor(streams, device=device), torch.tensor(blocks, device=device))


def gumbel(keys: Tensor, step: Tensor, counters: Counters) -> list[Tensor]:
    """Return :func:`duplex.backends.shared.noise.gumbel` for a batch: float32 ``[batch, size]`` for each stream.

    ``keys`` int64 ``[batch, rounds, 2]`` holds each row's round keys, ``step`` int64 ``[batch]``. All streams are drawn
    in one pass.
    """
    if kernels.apply_to(step):
        from duplex.backends.torch.kernels import noise as kernel  # noqa: PLC0415 -- needs Triton

        drawn = kernel.gumbel(keys, step, counters.streams, counters.blocks)
    else:
        u = ((_words(keys, step, counters) >> 8).double() + 0.5) / 2**24
        drawn = -torch.log(-torch.log(u)).float()
    found: list[Tensor] = []
    start = 0
    for size in counters.sizes:
        found.append(drawn[:, start : start + size])
        start += 4 * -(-size // 4)
    return found


def _words(keys: Tensor, step: Tensor, counters: Counters) -> Tensor:
    """Return the random words, int64 ``[batch, 4 * blocks]``: the product of two words keeps its low 64 bits."""
    c0, c1, c2, c3 = step[:, None], counters.streams, counters.blocks, torch.zeros_like(counters.blocks)
    for key in keys.unbind(1):
        k0, k1 = key[:, :1], key[:, 1:]
        first, second = c0 * noise.MULTIPLIERS[0], c2 * noise.MULTIPLIERS[1]
        c0, c2 = ((second >> 32) ^ c1 ^ k0) & _LOW, ((first >> 32) ^ c3 ^ k1) & _LOW
        c1, c3 = second & _LOW, first & _LOW
    return torch.stack([c0, c1, c2, c3], dim=-1).flatten(-2)


@attrs.frozen(eq=False)
class Sampler:
    """The options of a batch of rows, and the noise of one step.

    ``text`` and ``audio`` are float32 ``[batch, 2]``: temperature (0 is greedy) and top-k (0 is unlimited); ``bonus``
    float32 ``[batch]`` is what is added to the logit of padding.
    """

    text: Tensor
    audio: Tensor
    bonus: Tensor
    sampling: Sampling
    noise: list[Tensor] | None
    """float32 ``[batch, vocabulary]`` for the text and each of the agent's streams; ``None`` if every row is greedy."""

    @staticmethod
    def state_spec() -> dict[str, StateSpec]:
        """Return the tensors that hold each slot's options."""
        return {
            "options.keys": StateSpec((noise.ROUNDS, 2), torch.int64),
            "options.text": StateSpec((2,), torch.float32),
            "options.audio": StateSpec((2,), torch.float32),
            "options.padding_bonus": StateSpec((), torch.float32),
        }

    @staticmethod
    def write(tensors: dict[str, Tensor], options: SessionOptions) -> None:
        """Put one slot's options (complete, no ``None``) into the tensors of that slot."""
        assert options.seed is not None
        tensors["options.padding_bonus"].fill_(options.padding_bonus or 0.0)
        tensors["options.keys"].copy_(torch.tensor([noise.round_keys(options.seed)]))
        for name, values in (
            ("text", (options.text_temperature, options.text_top_k)),
            ("audio", (options.temperature, options.top_k)),
        ):
            tensors[f"options.{name}"].copy_(torch.tensor([[float(value or 0) for value in values]]))

    @classmethod
    def prepare(cls, tensors: dict[str, Tensor], sampling: Sampling, step: Tensor, counters: Counters) -> "Sampler":
        """Draw the noise of one step for rows whose options ``sampling`` sums up."""
        drawn = gumbel(tensors["options.keys"], step, counters) if sampling.drawn else None
        text, audio, bonus = (tensors[f"options.{name}"] for name in ("text", "audio", "padding_bonus"))
        return cls(text, audio, bonus, sampling, drawn)

    def sample_text(self, logits: Tensor, padding: int) -> Tensor:
        """Return int64 ``[batch]`` for float32 logits ``[batch, text_vocabulary]``; ``padding`` is that token.

        Rows without a bonus add 0, so that the first with one has no step recorded for it while others wait.
        """
        logits = logits.clone()
        logits[:, padding] += self.bonus
        return _sample(logits, self.text, self.sampling.text_top_k, self._noise(TEXT_STREAM))

    def sample_audio(self, logits: Tensor, stream: int) -> Tensor:
        """Return int64 ``[batch]`` for codebook ``stream``'s float32 logits ``[batch, audio_vocabulary]``."""
        return _sample(logits, self.audio, self.sampling.audio_top_k, self._noise(1 + stream))

    def _noise(self, stream: int) -> Tensor | None:
        return None if self.noise is None else self.noise[stream]


def _sample(logits: Tensor, options: Tensor, deepest: int | Tensor, drawn: Tensor | None) -> Tensor:
    """Choose a token per row. Logits equal to the k-th largest are all kept, so that order cannot matter."""
    if kernels.apply_to(logits):
        from duplex.backends.torch.kernels.sampling import sample  # noqa: PLC0415 -- needs Triton

        return sample(logits, options.contiguous(), drawn)
    if drawn is None:
        return logits.argmax(dim=-1)
    temperature, top_k = options[:, :1], options[:, 1:]
    scores = logits / temperature.clamp(min=torch.finfo(torch.float32).tiny) + drawn
    scores = torchscript.as_traced(_limited)(scores, logits, top_k, torch.as_tensor(deepest))
    return torch.where(temperature > 0, scores, logits).argmax(dim=-1)


def _limited(scores: Tensor, logits: Tensor, top_k: Tensor, deepest: Tensor) -> Tensor:
    """Return ``scores`` with -inf where a row's logit is not among its ``top_k`` largest.

    In a recorded step it is TorchScript, so that any depth takes the same program.
    """
    depth = min(int(deepest), logits.shape[-1])
    if depth == 0:
        return scores
    largest = logits.topk(depth, dim=-1)[0]
    threshold = largest.gather(1, (top_k.long() - 1).clamp(min=0, max=depth - 1))
    return scores.masked_fill((logits < threshold) & (top_k > 0), float("-inf"))
