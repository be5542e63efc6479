"""The reconstruction loss: distance of log mel spectrograms at several window lengths.

The filter bank is the usual one: triangles that overlap by half, evenly spaced on the mel scale.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["MultiScaleMelLoss"]

WINDOWS = ((2048, 96), (1024, 80), (512, 56), (256, 28), (128, 14))
"""Window length in samples, and number of mel bands."""
FULL_WINDOWS = (2048, 1024, 512)
"""Of the loss that compares every frequency."""
DESCRIPTION = (1024, 80)
DESCRIPTION_HOP = 240
FLOOR = 2e-3
"""Added to every magnitude; windows have unit energy, so it is a level of white noise, -54 dBFS, at every length.

Much higher, it would hide the quiet parts of speech from the loss. Much lower, and nearly all of the gradient, one over
the magnitude, would go to making silence more silent.
"""


class MultiScaleMelLoss(nn.Module):
    """Mean absolute difference of natural log mel magnitudes, averaged over the window lengths."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for size, bands in WINDOWS:
            filters = torch.tensor(mel_filters(sample_rate, size, bands))
            window = torch.hann_window(size)
            self.register_buffer(f"filters_{size}", filters, persistent=False)
            self.register_buffer(f"window_{size}", window / window.square().sum().sqrt(), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss of audio against its target, float32 ``[batch, samples]`` both."""
        total = made.new_zeros(())
        for size, _ in WINDOWS:
            with torch.no_grad():
                target = self.log_mel(wanted, size)
            total = total + (self.log_mel(made, size) - target).abs().mean()
        return total / len(WINDOWS)

    def spectrum(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Return the same of every frequency, not of bands: high harmonics, many to a band, are told from noise."""
        total = made.new_zeros(())
        for size in FULL_WINDOWS:
            with torch.no_grad():
                target = torch.log(self.magnitudes(wanted, size) + FLOOR)
            total = total + (torch.log(self.magnitudes(made, size) + FLOOR) - target).abs().mean()
        return total / len(FULL_WINDOWS)

    def spectral_target_size(self, hop: int) -> int:
        """Return the width of :meth:`spectral_targets` for ``hop`` samples: log mel magnitudes about every 10 ms."""
        return hop // min(hop, DESCRIPTION_HOP) * DESCRIPTION[1]

    @torch.no_grad()
    def spectral_targets(self, audio: Tensor, positions: int) -> Tensor:
        """Return log mel magnitudes ``[batch, positions, spectral_target_size(hop)]`` of audio ``[batch, samples]``."""
        hop = audio.shape[1] // positions
        bands, count = DESCRIPTION[1], self.spectral_target_size(hop) // DESCRIPTION[1]
        mel = self.log_mel(audio, DESCRIPTION[0], min(DESCRIPTION_HOP, hop))[..., : positions * count]
        return mel.view(len(audio), bands, positions, count).permute(0, 2, 3, 1).flatten(2)

    def log_mel(self, audio: Tensor, size: int, hop: int | None = None) -> Tensor:
        """Return natural log mel magnitudes, ``[batch, bands, positions]``, with a window of ``size`` samples."""
        return torch.log(torch.matmul(self.get_buffer(f"filters_{size}"), self.magnitudes(audio, size, hop)) + FLOOR)

    def magnitudes(self, audio: Tensor, size: int, hop: int | None = None) -> Tensor:
        """Return magnitudes, ``[batch, frequencies, positions]``, with a window of ``size`` samples."""
        window = self.get_buffer(f"window_{size}")
        spectrum = torch.stft(audio, size, hop or size // 4, window=window, return_complex=True)
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        return torch.addcmul(real.square() + FLOOR**2 / 100, imaginary, imaginary).sqrt()


def mel_filters(sample_rate: int, window: int, bands: int) -> NDArray[np.float32]:
    """Return triangular filters ``[bands, window // 2 + 1]`` whose weights sum to 1, from 0 to half the sample rate."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (np.power(10.0, np.linspace(0.0, highest, bands + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, window // 2 + 1)
    # No narrower than a bin: low triangles would fall between two bins and be empty.
    width = np.maximum(np.diff(edges), sample_rate / window)
    centre = edges[1:-1, None]
    rising = 1 - (centre - bins) / width[:-1, None]
    falling = 1 - (bins - centre) / width[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    return (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)
