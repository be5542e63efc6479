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

__all__ = ["CONTEXT", "RATE", "WINDOW", "SileroNetwork", "load_published"]

Float32 = NDArray[np.float32]
RATE = 16000
WINDOW = 512
"""Samples per window, for which there is one probability."""
CONTEXT = 64
"""Samples of left context, and of reflection padding on the right."""
STRIDE = 128
WEIGHTS = Path(__file__).with_name("silero_vad_16k.safetensors")


class SileroNetwork:
    """The network, batched over windows up to the LSTM. ``weights`` have their published names."""

    def __init__(self, weights: Mapping[str, Float32]) -> None:
        self._weights = _prepare_weights(weights)
        self.width = self._weights["lstm.weight_hh"].shape[0]

    def probabilities(self, windows: Float32, counts: Sequence[int], lstm_states: Float32) -> list[float]:
        """Return a probability for each of the windows, float32 ``[sum(counts), 640]``, detector after detector.

        ``lstm_states``, float32 ``[detectors, 2, 128]``, the hidden and cell states, are updated in place.
        """
        weights = self._weights
        x = _stft_magnitudes(windows.reshape(len(windows), -1, STRIDE), weights["stft_conv.weight"])
        for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = _conv1d_relu(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride)
        gate_inputs = x[:, 0] @ weights["lstm.weight_ih"] + weights["lstm.bias"]
        hidden = np.empty((len(windows), self.width), np.float32)
        lengths = np.array(counts)
        first = np.cumsum(lengths) - lengths
        for index in range(max(counts)):
            active = np.flatnonzero(lengths > index)
            rows = first[active] + index
            lstm_states[active] = _lstm_step(gate_inputs[rows], lstm_states[active], weights["lstm.weight_hh"])
            hidden[rows] = lstm_states[active, 0]
        output = np.maximum(hidden, 0) @ weights["final_conv.weight"] + weights["final_conv.bias"]
        return _sigmoid(output[:, 0]).tolist()


def _stft_magnitudes(blocks: Float32, basis: Float32) -> Float32:
    """Return STFT magnitudes ``[windows, positions, bins]`` of samples in blocks ``[windows, positions + 1, stride]``.

    ``basis`` is ``[2 * stride, 2 * bins]``, cosines first.
    """
    spectrum = np.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2) @ basis
    bins = spectrum.shape[-1] // 2
    spectrum *= spectrum  # numpy's hypot takes as long as the rest of the network
    return np.sqrt(spectrum[..., :bins] + spectrum[..., bins:])


def _conv1d_relu(x: Float32, weight: Float32, bias: Float32, stride: int) -> Float32:
    """Return the ReLU of a convolution of ``[windows, positions, channels]``; ``weight`` is ``[3 * channels, out]``."""
    padded = np.zeros((len(x), x.shape[1] + 2, x.shape[2]), np.float32)
    padded[:, 1:-1] = x
    stacked = np.concatenate([padded[:, :-2:stride], padded[:, 1:-1:stride], padded[:, 2::stride]], axis=2)
    made = stacked @ weight
    made += bias
    return np.maximum(made, 0, out=made)


def _lstm_step(gate_inputs: Float32, lstm_states: Float32, weight: Float32) -> Float32:
    """Return the next hidden and cell states ``[detectors, 2, 128]`` of the LSTM.

    ``gate_inputs`` is the projected input, ``[detectors, 512]``.
    """
    gates = (lstm_states[:, 0] @ weight + gate_inputs).reshape(len(gate_inputs), 4, -1)
    gate = _sigmoid(gates)
    new = np.empty_like(lstm_states)
    new[:, 1] = gate[:, 1] * lstm_states[:, 1] + gate[:, 0] * np.tanh(gates[:, 2])
    new[:, 0] = gate[:, 3] * np.tanh(new[:, 1])
    return new


def _sigmoid(x: Float32) -> Float32:
    # In this form nothing overflows.
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)


@cache
def load_published() -> SileroNetwork:
    """Return the published network, loaded once."""
    from safetensors.numpy import load_file  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]

    return SileroNetwork(load_file(WEIGHTS))


def _prepare_weights(load_published: Mapping[str, Float32]) -> dict[str, Float32]:
    """Return the weights, transposed for products with row vectors."""
    arranged = {name: tensor for name, tensor in load_published.items() if name.endswith("bias")}
    for name in ("conv1", "conv2", "conv3", "conv4"):
        weight = load_published[f"{name}.weight"]
        arranged[f"{name}.weight"] = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))
    arranged["stft_conv.weight"] = np.ascontiguousarray(load_published["stft_conv.weight"][:, 0].T)
    arranged["final_conv.weight"] = np.ascontiguousarray(load_published["final_conv.weight"][:, :, 0].T)
    for name in ("weight_ih", "weight_hh"):
        arranged[f"lstm.{name}"] = np.ascontiguousarray(load_published[f"lstm_cell.{name}"].T)
    arranged["lstm.bias"] = load_published["lstm_cell.bias_ih"] + load_published["lstm_cell.bias_hh"]
    return arranged
