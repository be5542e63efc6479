"""Codes to compare a codebook with, for `codec_quality.py`: clusters of what is known about each frame of 80 ms.

Clusters of mel spectra are what a codebook says that knows nothing of language; clusters of the teacher's features are
about the most that one can learn from it. The teacher hears what comes after a frame as well; a causal codec cannot.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_speech import FRAME
from duplex.training.codec.losses import MultiScaleMelLoss
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.teacher import Teacher

__all__ = ["Clusters", "mel_features", "teacher_features"]

Float32 = NDArray[np.float32]
Codes = NDArray[np.int64]
ROUNDS = 12
WINDOW = (1024, 480)
"""Of the mel spectra: samples, and the hop of 20 ms."""
WINDOW_SECONDS = 29
"""Of recordings that the teacher hears at a time; it takes 30 s, whatever is in them."""


@attrs.frozen(eq=False)
class Clusters:
    """Centres ``[count, width]`` of features that were scaled to a deviation of one."""

    centres: Tensor
    mean: Float32
    scale: Float32

    @classmethod
    def found(cls, features: Sequence[Float32], count: int) -> "Clusters":
        """Find clusters by k-means."""
        joined = np.concatenate(features)
        mean, scale = joined.mean(axis=0), joined.std(axis=0) + 1e-6
        rows = torch.from_numpy((joined - mean) / scale)
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        centres = rows[chosen[torch.arange(count) % len(rows)]]
        for _ in range(ROUNDS):
            nearest = _nearest(rows, centres)
            sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
            counts = torch.bincount(nearest, minlength=count)[:, None]
            centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        return cls(centres, mean, scale)

    def codes(self, features: Sequence[Float32]) -> list[Codes]:
        """Return the nearest clusters ``[1, frames]`` of features ``[frames, width]``."""
        scaled = [torch.from_numpy((rows - self.mean) / self.scale) for rows in features]
        return [_nearest(rows, self.centres)[None].numpy() for rows in scaled]


def mel_features(sounds: Sequence[Float32]) -> list[Float32]:
    """Return four log mel spectra of each frame, ``[frames, 320]``."""
    mel = MultiScaleMelLoss(SAMPLE_RATE)
    rows: list[Float32] = []
    for pcm in sounds:
        frames, size = len(pcm) // FRAME, FRAME // WINDOW[1]
        bands = mel.log_mel(torch.from_numpy(pcm)[None], *WINDOW)[0, :, : frames * size]
        rows.append(bands.unflatten(1, (frames, size)).permute(1, 2, 0).flatten(1).numpy())
    return rows


def teacher_features(sounds: Sequence[Float32]) -> list[Float32]:
    """Return what the training's teacher hears in each frame, ``[frames, 384]``."""
    teacher = Teacher()
    rows: list[Float32] = []
    for group in _groups(sounds):
        heard = teacher.features(np.concatenate(group), SAMPLE_RATE).astype(np.float32)
        ends = np.cumsum([len(pcm) // FRAME for pcm in group])
        rows.extend(np.split(heard, ends[:-1]))
    return rows


def _groups(sounds: Sequence[Float32]) -> list[list[Float32]]:
    """Return sounds one after the other in groups that fit into a window of the teacher."""
    groups: list[list[Float32]] = [[]]
    samples = 0
    for pcm in sounds:
        if samples and samples + len(pcm) > WINDOW_SECONDS * SAMPLE_RATE:
            groups.append([])
            samples = 0
        groups[-1].append(pcm)
        samples += len(pcm)
    return groups


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    return (rows @ centres.T - centres.square().sum(dim=1) / 2).argmax(dim=1)
