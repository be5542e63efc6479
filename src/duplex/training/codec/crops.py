"""Random crops of a corpus. The crops of a step depend on the seed and the step alone, so that a run can be resumed."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from duplex.errors import CorpusError
from duplex.training.codec.settings import CodecSettings, CropSettings
from duplex.training.data.corpus import Corpus, Shard

__all__ = ["CropSampler", "Pools", "ShardSampler", "random_gain"]

Float32 = NDArray[np.float32]
TEACHER_WINDOW = 375
"""Frames in one window of the teacher."""
VALIDATION_SEED = 2**32 - 1
LOUDEST = 0.98
Batch = TypeVar("Batch")


class ShardSampler(ABC, Generic[Batch]):
    """Samples from shards for training and validation; the last shard of every voice with several is for validation.

    :raises CorpusError: if no shard has so many ``frames``
    """

    def __init__(self, corpus: Corpus, settings: CropSettings, frames: int, frame_size: int) -> None:
        self._seed = settings.seed
        kept = _last_of_each_voice(corpus.shards)
        long_enough = [shard for shard in corpus.shards if len(shard.pcm) >= frames * frame_size]
        if not long_enough:
            raise CorpusError(f"{corpus.folder} has no shard of {frames} frames; make longer ones")
        self._training = Pools([shard for shard in long_enough if id(shard) not in kept] or long_enough)
        self._validation = Pools([shard for shard in long_enough if id(shard) in kept] or long_enough)

    def batch(self, step: int, rank: int = 0) -> Batch:
        """Return a step's crops."""
        return self.sample(self._training, np.random.default_rng((self._seed, rank, step)))

    def validation(self, index: int) -> Batch:
        """Return crops of the validation set, the same ones for each index."""
        return self.sample(self._validation, np.random.default_rng((VALIDATION_SEED, index)))

    @abstractmethod
    def sample(self, pools: "Pools", rng: np.random.Generator) -> Batch:
        """Return a batch of crops."""


class CropSampler(ShardSampler[tuple[Float32, Float32 | None]]):
    """Samples crops as sound, float32 ``[batch, samples]``, and teacher features ``[batch, frames, width]``.

    :raises CorpusError: if no shard is as long as a crop, or the teacher's features are of another frame rate
    """

    def __init__(self, corpus: Corpus, settings: CodecSettings, frame_size: int) -> None:
        super().__init__(corpus, settings, settings.crop_frames, frame_size)
        self._settings = settings
        self._frame = frame_size
        for shard in corpus.shards:
            if shard.targets is not None and not 0 <= len(shard.targets) - len(shard.pcm) // frame_size <= 1:
                raise CorpusError(
                    f"{corpus.folder} has a teacher's features of another frame rate (voice '{shard.voice}'); make the "
                    "data anew, or give a codec of its frame rate"
                )
        self._means, self._scale = _statistics(self._training.shards) if corpus.teacher_width else (None, None)

    def sample(self, pools: "Pools", rng: np.random.Generator) -> tuple[Float32, Float32 | None]:
        """Return crops, and what the teacher says of them, if there is one."""
        sounds: list[Float32] = []
        features: list[Float32] = []
        for _ in range(self._settings.batch):
            shard = pools.draw(rng, self._settings.agent_share)
            frames = self._settings.crop_frames
            start = int(rng.integers(len(shard.pcm) // self._frame - frames + 1))
            piece = shard.pcm[start * self._frame : (start + frames) * self._frame].astype(np.float32) / np.float32(
                2**15
            )
            sounds.append(piece * random_gain(piece, shard.role, rng))
            if shard.targets is not None and self._means is not None and self._scale is not None:
                place = np.arange(start, start + frames)
                centred = shard.targets[place] - self._means[place % TEACHER_WINDOW]
                features.append((centred / self._scale).astype(np.float32))
        return np.stack(sounds), np.stack(features) if features else None


class Pools:
    """Shards by role, sampled in proportion to their length."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        agent = [shard for shard in shards if shard.role == "agent"]
        user = [shard for shard in shards if shard.role != "agent"]
        self._pools = [agent or user, user or agent]
        lengths = [np.array([len(shard.pcm) for shard in pool], np.float64) for pool in self._pools]
        self._shares = [length / length.sum() for length in lengths]

    def draw(self, rng: np.random.Generator, agent_share: float) -> Shard:
        """Return a random shard, with probability ``agent_share`` one of the agent's."""
        which = int(rng.random() >= agent_share)
        pool = self._pools[which]
        return pool[int(rng.choice(len(pool), p=self._shares[which]))]


def random_gain(pcm: Float32, role: str, rng: np.random.Generator) -> np.float32:
    """Return a random gain that does not take a sound beyond full scale; users vary more than the agent."""
    decibels = rng.uniform(-3, 3) if role == "agent" else rng.uniform(-15, 9)
    peak = float(np.abs(pcm).max(initial=1e-6))
    return np.float32(min(10 ** (decibels / 20), LOUDEST / peak))


def _last_of_each_voice(shards: tuple[Shard, ...]) -> set[int]:
    """Return the identities of the shards for validation: the last of every voice that has several."""
    voices: dict[str, list[Shard]] = {}
    for shard in shards:
        voices.setdefault(shard.voice, []).append(shard)
    return {id(group[-1]) for group in voices.values() if len(group) > 1}


def _statistics(shards: list[Shard]) -> tuple[Float32, Float32]:
    """Return the features' mean at each position of the teacher's window, and their standard deviation.

    The teacher's features contain its positional embedding; without the positions' means, what is left is about the
    sound.
    """
    width = next(shard.targets.shape[1] for shard in shards if shard.targets is not None)
    sums, squares = np.zeros((TEACHER_WINDOW, width)), np.zeros((TEACHER_WINDOW, width))
    counts = np.zeros((TEACHER_WINDOW, 1))
    for shard in shards:
        assert shard.targets is not None  # noqa: S101 -- the corpus has checked it
        for start in range(0, len(shard.targets), TEACHER_WINDOW):
            rows = shard.targets[start : start + TEACHER_WINDOW].astype(np.float64)
            sums[: len(rows)] += rows
            squares[: len(rows)] += rows**2
            counts[: len(rows)] += 1
    counts = np.maximum(counts, 1)
    means = sums / counts
    deviation = np.sqrt(np.maximum(squares / counts - means**2, 0).mean(axis=0) + 1e-6)
    return means.astype(np.float32), deviation.astype(np.float32)
