"""Which shards of speech a corpus shall have, and how each is made."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from duplex.audio.pcm import to_int16
from duplex.errors import UsageError
from duplex.training.data.corpus import Shard, write_shard
from duplex.training.data.sound import Noise, SoundSource, Spoken
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.teacher import Teacher
from duplex.training.data.voices import CAST, Voice

__all__ = ["SHARD_SECONDS", "SpeechOrder", "plan"]

SHARD_SECONDS = 300
SHARE_OF_NOISE = 0.03
BYTES_PER_SECOND = SAMPLE_RATE * 2 + 25 * Teacher.WIDTH
_TEACHER = Teacher()


@attrs.frozen(kw_only=True)
class SpeechOrder:
    """One shard that shall be made: so many seconds of a source's sound, and what the teacher hears in it."""

    path: Path
    source: SoundSource
    seconds: float
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        """What the source and the teacher need."""
        return (*Teacher.NEEDS, *self.source.needs)

    @property
    def size(self) -> float:
        """Bytes of sound and features."""
        return self.seconds * BYTES_PER_SECOND

    def make(self) -> None:
        """Make the shard."""
        sound = self.source.make(self.seconds, np.random.default_rng(self.seed))
        shard = Shard(
            voice=self.source.voice,
            role=self.source.role,
            sample_rate=SAMPLE_RATE,
            pcm=to_int16(sound.heard),
            targets=_TEACHER.features(sound.meant, SAMPLE_RATE),
            utterances=tuple(sound.utterances),
        )
        write_shard(self.path, shard)


def plan(folder: Path, *, scale: float = 1.0, seed: int = 0, cast: Sequence[Voice] = CAST) -> list[SpeechOrder]:
    """Return the shards of a corpus in ``folder``; ``scale`` multiplies every voice's minutes.

    :raises UsageError: if ``scale`` is not positive
    """
    if not 0 < scale < math.inf:
        raise UsageError(f"the scale is {scale}; give a number above 0")
    lengths: list[tuple[SoundSource, float]] = [(Spoken(voice), voice.minutes * 60 * scale) for voice in cast]
    lengths.append((Noise(), SHARE_OF_NOISE * sum(seconds for _, seconds in lengths)))
    orders: list[SpeechOrder] = []
    for source, seconds in lengths:
        name = source.voice
        for index in range(max(1, round(seconds / SHARD_SECONDS))):
            orders.append(  # noqa: PERF401 -- two nested loops in a comprehension are hard to read
                SpeechOrder(
                    path=folder / f"{name}-{index:04}.safetensors",
                    source=source,
                    seconds=min(seconds, SHARD_SECONDS),
                    seed=zlib.crc32(f"{seed} {name} {index}".encode()),
                )
            )
    return orders
