"""Who speaks in the training data, and who must not: voices named ``UNSEEN`` are kept for testing, whole."""

from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler, level_dbfs
from duplex.training.data.synthesizers import SAMPLE_RATE, SYNTHESIZERS

__all__ = ["AGENT", "CAST", "UNSEEN", "Role", "Voice"]

Float32 = NDArray[np.float32]
Role = Literal["agent", "user"]
LEVEL_DBFS = -24.0
QUIETEST_DBFS = -60.0
SMALLEST_RATIO_STEP = 240
SPEED_VARIES = 0.05
ESPEAK_KINDS = ("m1", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Mike", "Alex", "linda")


@attrs.frozen(kw_only=True)
class Voice:
    """A voice: an engine, the engine's variants to draw from, and how far it is altered.

    ``size`` is the range of factors by which pitch and formants are multiplied together, as by a larger or smaller
    speaker; the tempo stays, because the engine speaks slower or faster in turn. ``minutes`` is its share of a corpus.
    """

    name: str
    engine: str
    variants: tuple[str, ...]
    role: Role = "user"
    size: tuple[float, float] = (1.0, 1.0)
    speed: tuple[float, float] = (0.9, 1.15)
    minutes: float = 0.0

    def settled(self, rng: np.random.Generator) -> "Voice":
        """Return one speaker of this voice: one variant of one size, whose speed varies little."""
        size, speed = rng.uniform(*self.size), rng.uniform(*self.speed)
        return attrs.evolve(
            self,
            variants=(self.variants[rng.integers(len(self.variants))],),
            size=(size, size),
            speed=(speed * (1 - SPEED_VARIES), speed * (1 + SPEED_VARIES)),
        )

    def speak(self, text: str, rng: np.random.Generator) -> Float32:
        """Return float32 ``[samples]`` at 24 kHz, at a level of -24 dBFS.

        :raises MissingDependencyError: if the engine is not installed, naming how to install it
        """
        variant = self.variants[rng.integers(len(self.variants))]
        # Rates are steps of 1 %: the resampler wants whole numbers.
        source = SMALLEST_RATIO_STEP * round(SAMPLE_RATE * rng.uniform(*self.size) / SMALLEST_RATIO_STEP)
        tempo = rng.uniform(*self.speed)
        pcm = SYNTHESIZERS[self.engine].speak(text, variant, tempo * SAMPLE_RATE / source, rng)
        if source != SAMPLE_RATE:
            resampler = Resampler(source, SAMPLE_RATE)
            pcm = np.concatenate([resampler.push(pcm), resampler.flush()])
        return levelled(pcm)


def levelled(pcm: Float32) -> Float32:
    """Return speech at a level of -24 dBFS; silence stays what it is."""
    level = level_dbfs(pcm) if len(pcm) else QUIETEST_DBFS
    return pcm if level <= QUIETEST_DBFS else pcm * np.float32(10 ** ((LEVEL_DBFS - level) / 20))


def _mixtures(voices: Sequence[str], shares: Sequence[float]) -> tuple[str, ...]:
    pairs = [(first, second) for first in voices for second in voices if first < second]
    return (*voices, *(f"{first}+{second}:{share}" for first, second in pairs for share in shares))


AGENT = Voice(name="heart", engine="hibari", variants=("heart",), role="agent", minutes=180)
CAST: tuple[Voice, ...] = (
    AGENT,
    Voice(
        name="kokoro",
        engine="kokoro",
        variants=_mixtures(("jf_alpha", "jf_nezumi", "jf_tebukuro", "jm_kumo"), (0.35, 0.65)),
        size=(0.82, 1.15),
        minutes=20,
    ),
    Voice(name="joe", engine="piper", variants=("joe",), size=(0.85, 1.3), minutes=80),
    Voice(name="slt", engine="flite", variants=("slt",), size=(0.75, 1.2), minutes=50),
    Voice(name="awb", engine="flite", variants=("awb",), size=(0.85, 1.25), minutes=50),
    Voice(name="kal", engine="flite", variants=("kal16",), size=(0.85, 1.25), minutes=35),
    Voice(
        name="espeak",
        engine="espeak",
        variants=tuple(f"{accent}+{kind}" for accent in ("en-us", "en-gb", "en-gb-scotland") for kind in ESPEAK_KINDS),
        size=(0.9, 1.15),
        minutes=75,
    ),
)
"""The voices of the training data, eight hours together."""

UNSEEN: tuple[Voice, ...] = (
    Voice(name="gongitsune", engine="kokoro", variants=("jf_gongitsune",)),
    Voice(name="rms", engine="flite", variants=("rms",)),
    Voice(name="espeak-m2", engine="espeak", variants=("en-us+m2",)),
)
"""Voices that no training data has: a woman's, a man's, and a machine's. A human one is added by the benchmark."""
