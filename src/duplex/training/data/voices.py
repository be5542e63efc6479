"""The voices of the training data, and the voices that are held out for testing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler, level_dbfs
from duplex.errors import UsageError
from duplex.training.data.synthesizers import SAMPLE_RATE, SYNTHESIZERS, read_styles

__all__ = ["AGENT_VOICE", "HELD_OUT_VOICES", "TRAINING_VOICES", "Role", "Voice", "held_out_styles", "user_voices"]

Float32 = NDArray[np.float32]
Role = Literal["agent", "user"]
LEVEL_DBFS = -24.0
QUIETEST_DBFS = -60.0
SMALLEST_RATIO_STEP = 240
SPEED_VARIES = 0.05
ESPEAK_KINDS = ("m1", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Mike", "Alex", "linda")


@attrs.frozen(kw_only=True)
class Voice:
    """A voice: a synthesizer, the variants of it to sample from, and the ranges of its augmentation.

    ``size`` is the range of factors by which pitch and formants are multiplied together, as for a larger or smaller
    speaker; the synthesizer's speed compensates the tempo. ``stretch`` multiplies all three, of what has been
    synthesized. ``minutes`` is its share of a corpus.
    """

    name: str
    engine: str
    variants: tuple[str, ...]
    role: Role = "user"
    size: tuple[float, float] = (1.0, 1.0)
    speed: tuple[float, float] = (0.9, 1.15)
    stretch: float = 1.0
    minutes: float = 0.0

    def sample_speaker(self, rng: np.random.Generator) -> "Voice":
        """Return a random speaker of this voice: one variant, one size, and little variation in speed."""
        size, speed = rng.uniform(*self.size), rng.uniform(*self.speed)
        return attrs.evolve(
            self,
            variants=(self.variants[rng.integers(len(self.variants))],),
            size=(size, size),
            speed=(speed * (1 - SPEED_VARIES), speed * (1 + SPEED_VARIES)),
        )

    def speak(self, text: str, rng: np.random.Generator) -> Float32:
        """Return ``text`` as speech, float32 ``[samples]`` at 24 kHz, normalized to -24 dBFS.

        :raises MissingDependencyError: if the synthesizer is not installed, with how to install it
        """
        variant = self.variants[rng.integers(len(self.variants))]
        # Rates are steps of 1 %: the resampler wants whole numbers.
        source = SMALLEST_RATIO_STEP * round(SAMPLE_RATE * rng.uniform(*self.size) / SMALLEST_RATIO_STEP)
        tempo = rng.uniform(*self.speed)
        pcm = SYNTHESIZERS[self.engine].speak(text, variant, tempo * SAMPLE_RATE / source, rng)
        source = SMALLEST_RATIO_STEP * round(source * self.stretch / SMALLEST_RATIO_STEP)
        if source != SAMPLE_RATE:
            resampler = Resampler(source, SAMPLE_RATE)
            pcm = np.concatenate([resampler.push(pcm), resampler.flush()])
        return normalize_level(pcm)


def normalize_level(pcm: Float32) -> Float32:
    """Return speech normalized to a level of -24 dBFS; silence is returned unchanged."""
    level = level_dbfs(pcm) if len(pcm) else QUIETEST_DBFS
    return pcm if level <= QUIETEST_DBFS else pcm * np.float32(10 ** ((LEVEL_DBFS - level) / 20))


def _mixtures(voices: Sequence[str], shares: Sequence[float]) -> tuple[str, ...]:
    pairs = [(first, second) for first in voices for second in voices if first < second]
    return (*voices, *(f"{first}+{second}:{share}" for first, second in pairs for share in shares))


AGENT_VOICE = Voice(name="heart", engine="hibari", variants=("heart",), role="agent", minutes=180)
TRAINING_VOICES: tuple[Voice, ...] = (
    AGENT_VOICE,
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

HELD_OUT_VOICES: tuple[Voice, ...] = (
    Voice(name="gongitsune", engine="kokoro", variants=("jf_gongitsune",)),
    Voice(name="rms", engine="flite", variants=("rms",)),
    Voice(name="espeak-m2", engine="espeak", variants=("en-us+m2",)),
)
"""Voices that occur in no training data: female, male, and synthetic. A human one is added by the benchmark."""

HELD_OUT_STYLES = ("am_michael", "bf_emma")
"""Further voices of Kokoro's that occur in no training data, by the names of their files."""
SINGLE_SHARE = 12
"""How often a voice stands by itself among the mixtures of two."""


def user_voices(styles: Path | None = None) -> tuple[Voice, ...]:
    """Return the users' voices for training; with a folder of Kokoro's ``styles``, half of what they say is in those.

    :raises UsageError: if there are no styles in the folder, or one is not usable
    """
    users = tuple(voice for voice in TRAINING_VOICES if voice.role == "user")
    if styles is None:
        return users
    kept_out = {*HELD_OUT_STYLES, *(variant for voice in HELD_OUT_VOICES for variant in voice.variants)}
    names = [str(path) for path in _style_files(styles) if path.stem not in kept_out]
    for name in names:
        read_styles(Path(name))
    variants = (*names * (SINGLE_SHARE - 1), *_mixtures(names, (0.5,)))
    others = tuple(voice for voice in users if voice.engine != "kokoro")
    many = Voice(name="kokoro", engine="kokoro", variants=variants, size=(0.85, 1.18), speed=(0.85, 1.25))
    return (attrs.evolve(many, minutes=sum(voice.minutes for voice in others)), *others)


def held_out_styles(styles: Path) -> tuple[Voice, ...]:
    """Return the voices of the folder that occur in no training data, besides :data:`HELD_OUT_VOICES`.

    :raises UsageError: if there are no styles in the folder
    """
    files = [path for path in _style_files(styles) if path.stem in HELD_OUT_STYLES]
    return tuple(Voice(name=path.stem, engine="kokoro", variants=(str(path),)) for path in files)


def _style_files(folder: Path) -> list[Path]:
    there = folder.resolve()
    files = sorted(there.glob("*.bin"))
    if not files:
        raise UsageError(f"{folder} has no *.bin; take the folder voices of the npm package kokoro-js")
    if set(str(there)) & set("+:"):  # which a mixture of two is written with
        raise UsageError(f"{there}: a folder of voices has neither + nor : in its path; move it")
    return files
