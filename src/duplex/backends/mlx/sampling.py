"""Token sampling: temperature, top-k and the contract's seeded noise, for every row by its own options.

Nothing here waits for the device: options lie in each slot's state, and what the host must know to leave work out (does
any row sample at all? how deep is the deepest top-k?) it knows from the options it was given.
"""

from collections.abc import Sequence
from typing import ClassVar

import attrs
import mlx.core as mx

from duplex.backends.mlx.arrays import shaped
from duplex.backends.mlx.state import SlotState, StateSpec
from duplex.backends.shared import noise
from duplex.backends.shared.codebooks import EVERY, computed_codebooks
from duplex.options import SessionOptions

__all__ = ["TEXT_STREAM", "Sampler", "Sampling", "gumbel"]

TEXT_STREAM = 0
_LOW = 0xFFFFFFFF
_SMALLEST = 2.0**-126
_HALF = 2**23


def gumbel(keys: mx.array, step: mx.array, sizes: Sequence[int]) -> list[mx.array]:
    """Return :func:`duplex.backends.shared.noise.gumbel` for a batch: float32 ``[batch, size]`` for each stream.

    ``keys`` uint32 ``[batch, rounds, 2]`` holds each row's round keys, ``step`` int32 ``[batch]``. All streams are
    drawn in one pass.
    """
    blocks = [-(-size // 4) for size in sizes]
    wide = mx.uint64
    c1 = mx.concatenate([mx.full((count,), stream, wide) for stream, count in enumerate(blocks)])[None]
    c2 = mx.concatenate([mx.arange(count, dtype=wide) for count in blocks])[None]
    c0, c3, low = step.astype(wide)[:, None], mx.zeros_like(c2), mx.array(_LOW, wide)
    first_factor, second_factor = (mx.array(factor, wide) for factor in noise.MULTIPLIERS)
    half = mx.array(32, wide)
    for index in range(keys.shape[1]):
        key = keys[:, index].astype(wide)
        first, second = c0 * first_factor, c2 * second_factor
        c0, c2 = (second >> half) ^ c1 ^ key[:, :1], (first >> half) ^ c3 ^ key[:, 1:]
        c1, c3 = second & low, first & low
    words = shaped(mx.stack([c0, c1, c2, c3], axis=-1), len(keys), -1)
    drawn = _gumbel_of((words >> mx.array(8, wide)).astype(mx.int32))
    starts = [4 * sum(blocks[:stream]) for stream in range(len(blocks))]
    return [drawn[:, start : start + size] for start, size in zip(starts, sizes, strict=True)]


def _gumbel_of(word: mx.array) -> mx.array:
    """Return -log(-log(u)) for u = (word + 0.5) / 2**24, in float32, which Apple's GPU has to do with.

    Above a half, u has no exact float32, but 1 - u has.
    """
    above = word >= _HALF
    distance = mx.where(above, 2**24 - 1 - word, word).astype(mx.float32) + 0.5
    part = distance * 2.0**-24
    return -mx.log(mx.where(above, -mx.log1p(-part), -mx.log(part)))


@attrs.frozen
class Sampling:
    """What the host knows of how a step's tokens are chosen: whether any row samples, and at least its deepest top-k.

    Each is compiled into a step of its own, so there are ten of them, whatever callers ask for, for each number of
    codes that are computed.
    """

    DEPTHS: ClassVar[tuple[int, ...]] = (32, 256, 2**31)
    """What published checkpoints take for their text, and for their codes; and any vocabulary."""

    sampled: bool = False
    text_top_k: int = 0
    audio_top_k: int = 0
    codebooks: int = EVERY

    @classmethod
    def of(cls, options: Sequence[SessionOptions]) -> "Sampling":
        """Return the sampling for rows with these options."""
        alike = cls(codebooks=computed_codebooks(options))
        if not any(each.text_temperature or each.temperature for each in options):
            return alike
        return attrs.evolve(
            alike,
            sampled=True,
            text_top_k=cls._rounded(max(each.text_top_k or 0 for each in options)),
            audio_top_k=cls._rounded(max(each.top_k or 0 for each in options)),
        )

    @classmethod
    def _rounded(cls, top_k: int) -> int:
        return next(depth for depth in cls.DEPTHS if depth >= top_k)


@attrs.frozen(eq=False)
class Sampler:
    """The options of a batch of rows, and the noise of one step.

    ``text`` and ``audio`` are float32 ``[batch, 2]``: temperature (0 is greedy) and top-k (0 is unlimited); ``bonus``
    float32 ``[batch]`` is what is added to the logit of padding.
    """

    text: mx.array
    audio: mx.array
    bonus: mx.array
    sampling: Sampling
    drawn: list[mx.array] | None
    """float32 ``[batch, vocabulary]`` for the text and each of the agent's streams; ``None`` if every row is greedy."""

    @staticmethod
    def state_spec() -> dict[str, StateSpec]:
        """Return the arrays that hold a slot's options."""
        return {
            "options.keys": StateSpec((noise.ROUNDS, 2), mx.uint32),
            "options.text": StateSpec((2,), mx.float32),
            "options.audio": StateSpec((2,), mx.float32),
            "options.padding_bonus": StateSpec((), mx.float32),
        }

    @staticmethod
    def write(state: SlotState, prefix: str, options: SessionOptions) -> None:
        """Put a slot's options (complete, no ``None``) into its state."""
        assert options.seed is not None
        text = options.text_temperature or 0, options.text_top_k or 0
        audio = options.temperature or 0, options.top_k or 0
        state[f"{prefix}.options.keys"] = mx.array(noise.round_keys(options.seed), mx.uint32)
        state[f"{prefix}.options.text"] = mx.array(text, mx.float32)
        state[f"{prefix}.options.audio"] = mx.array(audio, mx.float32)
        state[f"{prefix}.options.padding_bonus"] = mx.array(options.padding_bonus or 0.0, mx.float32)

    @classmethod
    def prepare(cls, held: dict[str, mx.array], sampling: Sampling, step: mx.array, sizes: Sequence[int]) -> "Sampler":
        """Draw the noise of one step, for the text's and each of the agent's vocabularies, of these ``sizes``."""
        drawn = gumbel(held["options.keys"], step, sizes) if sampling.sampled else None
        text, audio, bonus = (held[f"options.{name}"] for name in ("text", "audio", "padding_bonus"))
        return cls(text, audio, bonus, sampling, drawn)

    def sample_text(self, logits: mx.array, padding: int) -> mx.array:
        """Return int32 ``[batch]`` for float32 logits ``[batch, text_vocabulary]``; ``padding`` is that token."""
        logits = logits + (mx.arange(logits.shape[1]) == padding) * self.bonus[:, None]
        return _sample(logits, self.text, self.sampling.text_top_k, self._noise(TEXT_STREAM))

    def sample_audio(self, logits: mx.array, stream: int) -> mx.array:
        """Return int32 ``[batch]`` for codebook ``stream``'s float32 logits ``[batch, audio_vocabulary]``."""
        return _sample(logits, self.audio, self.sampling.audio_top_k, self._noise(1 + stream))

    def _noise(self, stream: int) -> mx.array | None:
        return None if self.drawn is None else self.drawn[stream]


def _sample(logits: mx.array, options: mx.array, deepest: int, drawn: mx.array | None) -> mx.array:
    """Choose a token per row. Logits equal to the k-th largest are all kept, so that order cannot matter."""
    if drawn is None:
        return logits.argmax(axis=-1).astype(mx.int32)
    temperature, top_k = options[:, :1], options[:, 1:]
    scores = logits / mx.maximum(temperature, _SMALLEST) + drawn
    deepest = min(deepest, logits.shape[-1])
    largest = mx.sort(mx.topk(logits, deepest, axis=-1), axis=-1)
    place = mx.clip(deepest - top_k.astype(mx.int32), 0, deepest - 1)
    threshold = mx.take_along_axis(largest, place, axis=-1)
    scores = mx.where((logits < threshold) & (top_k > 0), -mx.inf, scores)
    return mx.where(temperature > 0, scores, logits).argmax(axis=-1).astype(mx.int32)
