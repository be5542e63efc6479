"""The plan of a speech corpus: its shards, and how each is made."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from duplex.audio.pcm import to_int16
from duplex.training.data.corpus import Shard, write_shard
from duplex.training.data.sources import NoiseSource, SoundSource, SpokenSource
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.teacher import Teacher
from duplex.training.data.voices import TRAINING_VOICES, Voice
from duplex.training.validators import check_scale

__all__ = ["SHARD_SECONDS", "SpeechJob", "plan"]

SHARD_SECONDS = 300
SHARE_OF_NOISE = 0.03
BYTES_PER_SECOND = SAMPLE_RATE * 2 + 25 * Teacher.WIDTH
_TEACHER = Teacher()


@attrs.frozen(kw_only=True)
class SpeechJob:
    """A shard to be made: audio of a source, and the teacher's features of it."""

    path: Path
    source: SoundSource
    seconds: float
    seed: int

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements of the source and the teacher."""
        return (*Teacher.REQUIREMENTS, *self.source.requirements)

    @property
    def size(self) -> float:
        """Bytes of audio and features."""
        return self.seconds * BYTES_PER_SECOND

    def make(self) -> None:
        """Make the shard."""
        sound = self.source.make(self.seconds, np.random.default_rng(self.seed))
        shard = Shard(
            voice=self.source.voice,
            role=self.source.role,
            sample_rate=SAMPLE_RATE,
            pcm=to_int16(sound.noisy),
            targets=_TEACHER.features(sound.clean, SAMPLE_RATE),
            utterances=tuple(sound.utterances),
        )
        write_shard(self.path, shard)


def plan(
    folder: Path, *, scale: float = 1.0, seed: int = 0, voices: Sequence[Voice] = TRAINING_VOICES
) -> list[SpeechJob]:
    """Return the shards of a corpus in ``folder``; ``scale`` multiplies every voice's minutes.

    :raises UsageError: if ``scale`` is not positive
    """
    check_scale(scale)
    lengths: list[tuple[SoundSource, float]] = [(SpokenSource(voice), voice.minutes * 60 * scale) for voice in voices]
    lengths.append((NoiseSource(), SHARE_OF_NOISE * sum(seconds for _, seconds in lengths)))
    jobs: list[SpeechJob] = []
    for source, seconds in lengths:
        name = source.voice
        for index in range(max(1, round(seconds / SHARD_SECONDS))):
            jobs.append(  # noqa: PERF401 -- two nested loops in a comprehension are hard to read
                SpeechJob(
                    path=folder / f"{name}-{index:04}.safetensors",
                    source=source,
                    seconds=min(seconds, SHARD_SECONDS),
                    seed=zlib.crc32(f"{seed} {name} {index}".encode()),
                )
            )
    return jobs
