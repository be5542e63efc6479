"""Discriminators of spectrograms at several window lengths, and the losses that are made of them.

Spectral losses are least where the texture of speech is averaged away. A discriminator can learn what else tells
synthesized speech from real. The architecture is EnCodec's (multi-scale STFT discriminators), with a stride in its
first layer too, because it has to learn on a CPU, and with log magnitudes in place of complex numbers: so few bits say
nothing of phases, and what a decoder cannot know of them draws it towards silence when features are to match.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["Judged", "StftDiscriminators", "discriminator_loss", "feature_distance", "generator_loss"]

WINDOWS = (2048, 1024, 512)
"""Window lengths in samples; the hop is a quarter of them."""
DILATIONS = (1, 2, 4)
"""Of the middle layers, in time; each halves the number of frequencies."""
SLOPE = 0.2
FLOOR = 0.04
"""Added to every magnitude, of windows of unit energy."""

Judged = tuple[Tensor, list[Tensor]]
"""A discriminator's scores, and the features of its layers, ``[batch, channels, positions, frequencies]`` each."""


class StftDiscriminators(nn.Module):
    """One discriminator for each window length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scales: nn.ModuleList = nn.ModuleList([_StftDiscriminator(window, channels) for window in WINDOWS])

    def forward(self, audio: Tensor) -> list[Judged]:
        """Return what each of them makes of audio, float32 ``[batch, samples]``."""
        return [scale(audio) for scale in self.scales]


class _StftDiscriminator(nn.Module):
    """Convolutions over a spectrogram's log magnitudes."""

    window: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        window = torch.hann_window(size)
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        layers = [_convolution(1, channels, (3, 9), stride=2)]
        layers += [_convolution(channels, channels, (3, 9), stride=2, dilation=dilation) for dilation in DILATIONS]
        layers += [_convolution(channels, channels, (3, 3))]
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.last: nn.Module = _convolution(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> Judged:
        # In bfloat16, convolutions as narrow as these take 2.4 to 3.8 times as long on a CPU that has it.
        with torch.autocast(audio.device.type, enabled=False):
            size = len(self.window)
            spectrum = torch.stft(audio, size, size // 4, window=self.window, return_complex=True)
            power = torch.view_as_real(spectrum).square().sum(-1)
            x = (
                (0.5 * torch.log(power + FLOOR**2))
                .transpose(1, 2)[:, None]
                .contiguous(memory_format=torch.channels_last)
            )
            features: list[Tensor] = []
            for layer in self.layers:
                x = functional.leaky_relu(layer(x), SLOPE)
                features.append(x)
            return self.last(x), features


def _convolution(channels: int, out: int, kernel: tuple[int, int], *, stride: int = 1, dilation: int = 1) -> nn.Module:
    """Return a convolution of ``[batch, channels, positions, frequencies]`` that keeps the number of positions."""
    padding = (kernel[0] // 2 * dilation, kernel[1] // 2)
    layer = nn.Conv2d(channels, out, kernel, stride=(1, stride), dilation=(dilation, 1), padding=padding)
    return weight_norm(layer)


def discriminator_loss(real: Sequence[Judged], made: Sequence[Judged]) -> Tensor:
    """Return the hinge loss of the discriminators, averaged over them."""
    losses = [
        functional.relu(1 - genuine.float()).mean() + functional.relu(1 + forged.float()).mean()
        for (genuine, _), (forged, _) in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_loss(made: Sequence[Judged]) -> Tensor:
    """Return the hinge loss of what made the audio, averaged over the discriminators."""
    return torch.stack([functional.relu(1 - score.float()).mean() for score, _ in made]).mean()


def feature_distance(real: Sequence[Judged], made: Sequence[Judged]) -> Tensor:
    """Return the mean absolute difference of all features, each relative to the real ones' mean magnitude."""
    distances = [
        (one - other.detach()).abs().mean(dtype=torch.float32)
        / other.detach().abs().mean(dtype=torch.float32).clamp(min=1e-6)
        for (_, ours), (_, theirs) in zip(made, real, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    ]
    return torch.stack(distances).mean()
