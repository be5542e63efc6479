"""The network of Silero VAD, version 6 (MIT licence): the probability that 512 samples at 16 kHz contain speech.

It runs in numpy, in less than a tenth of a millisecond a window, on the published weights: this package has a copy,
``silero_vad_16k.safetensors``, because the package ``silero-vad`` depends on PyTorch. The architecture is that of the
package's TorchScript model, against which the tests compare.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTEXT", "RATE", "WINDOW", "SileroNetwork", "published"]

Float32 = NDArray[np.float32]
RATE = 16000
WINDOW = 512
"""Samples that a probability is for."""
CONTEXT = 64
"""Samples before them that are heard too; as many of their end are heard once more, backwards."""
STRIDE = 128
WEIGHTS = Path(__file__).with_name("silero_vad_16k.safetensors")


class SileroNetwork:
    """The network, on many windows side by side, up to what remembers. ``weights`` are by their published names."""

    def __init__(self, weights: Mapping[str, Float32]) -> None:
        self._weights = _arranged(weights)
        self.width = self._weights["lstm.weight_hh"].shape[0]

    def probabilities(self, windows: Float32, counts: Sequence[int], memories: Float32) -> list[float]:
        """Return a probability for each of the windows, float32 ``[sum(counts), 640]``, the detectors' one by one.

        ``memories``, float32 ``[detectors, 2, 128]``, hidden and cell states, are brought up to date.
        """
        weights = self._weights
        x = _magnitudes(windows.reshape(len(windows), -1, STRIDE), weights["stft_conv.weight"])
        for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = _convolve(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride)
        heard = x[:, 0] @ weights["lstm.weight_ih"] + weights["lstm.bias"]
        remembered = np.empty((len(windows), self.width), np.float32)
        lengths = np.array(counts)
        first = np.cumsum(lengths) - lengths
        for index in range(max(counts)):
            going = np.flatnonzero(lengths > index)
            rows = first[going] + index
            memories[going] = _remember(heard[rows], memories[going], weights["lstm.weight_hh"])
            remembered[rows] = memories[going, 0]
        output = np.maximum(remembered, 0) @ weights["final_conv.weight"] + weights["final_conv.bias"]
        return _sigmoid(output[:, 0]).tolist()


def _magnitudes(blocks: Float32, basis: Float32) -> Float32:
    """Return the short-time spectra ``[windows, positions, bins]`` of ``[windows, positions + 1, half a length]``.

    ``basis`` is ``[length, 2 * bins]``, cosines first.
    """
    spectrum = np.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2) @ basis
    bins = spectrum.shape[-1] // 2
    spectrum *= spectrum  # numpy's hypot takes as long as the rest of the network
    return np.sqrt(spectrum[..., :bins] + spectrum[..., bins:])


def _convolve(x: Float32, weight: Float32, bias: Float32, stride: int) -> Float32:
    """Convolve ``[windows, positions, channels]`` with ``[3 * channels, out]``, padded by one, and rectify."""
    padded = np.zeros((len(x), x.shape[1] + 2, x.shape[2]), np.float32)
    padded[:, 1:-1] = x
    stacked = np.concatenate([padded[:, :-2:stride], padded[:, 1:-1:stride], padded[:, 2::stride]], axis=2)
    made = stacked @ weight
    made += bias
    return np.maximum(made, 0, out=made)


def _remember(heard: Float32, memories: Float32, weight: Float32) -> Float32:
    """Return the next hidden and cell states ``[detectors, 2, 128]`` of the LSTM.

    ``heard`` is the windows' part of its gates, ``[detectors, 512]``.
    """
    gates = (memories[:, 0] @ weight + heard).reshape(len(heard), 4, -1)
    gate = _sigmoid(gates)
    new = np.empty_like(memories)
    new[:, 1] = gate[:, 1] * memories[:, 1] + gate[:, 0] * np.tanh(gates[:, 2])
    new[:, 0] = gate[:, 3] * np.tanh(new[:, 1])
    return new


def _sigmoid(x: Float32) -> Float32:
    # In this form nothing overflows.
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)


@cache
def published() -> SileroNetwork:
    """Load the published network, once."""
    from safetensors.numpy import load_file  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]

    return SileroNetwork(load_file(WEIGHTS))


def _arranged(published: Mapping[str, Float32]) -> dict[str, Float32]:
    """Return the weights, each arranged for products with row vectors."""
    arranged = {name: tensor for name, tensor in published.items() if name.endswith("bias")}
    for name in ("conv1", "conv2", "conv3", "conv4"):
        weight = published[f"{name}.weight"]
        arranged[f"{name}.weight"] = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))
    arranged["stft_conv.weight"] = np.ascontiguousarray(published["stft_conv.weight"][:, 0].T)
    arranged["final_conv.weight"] = np.ascontiguousarray(published["final_conv.weight"][:, :, 0].T)
    for name in ("weight_ih", "weight_hh"):
        arranged[f"lstm.{name}"] = np.ascontiguousarray(published[f"lstm_cell.{name}"].T)
    arranged["lstm.bias"] = published["lstm_cell.bias_ih"] + published["lstm_cell.bias_hh"]
    return arranged
