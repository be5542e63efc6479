"""Does the user speak? A small interface, and the Silero detector behind it.

A detector hears every frame of a conversation and gives a probability for each window that the frame completed. A model
with a voice-activity head of its own can stand in for it: :class:`~duplex.frame_model.Frame` carries its tokens too.

The detector here runs the published weights of Silero VAD (MIT licence), which ship in the package ``silero-vad``, in
numpy: a window costs a tenth of a millisecond, no two conversations share anything, and the state is two small arrays
that can be exported. Architecture and sizes are those of the package's TorchScript model, with which the tests compare.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.audio import Resampler
from duplex.errors import MissingDependencyError, StateError
from duplex.frame_model import Frame

__all__ = ["SileroVoiceActivity", "VoiceActivity"]

Float32 = NDArray[np.float32]


class VoiceActivity(Protocol):
    """A detector of the user's speech in one conversation."""

    @property
    def window(self) -> float:
        """Seconds of audio for each probability."""
        ...

    def hear(self, frame: Frame) -> Sequence[float]:
        """Return a probability, 0 to 1, for each window that this frame completes, in order."""
        ...

    def state(self) -> Mapping[str, Float32]:
        """Return what the detector remembers, for :meth:`restore`."""
        ...

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        ...


class SileroVoiceActivity:
    """Silero VAD at its own rate of 16 kHz, 512 samples a window, fed by a streaming resampler.

    ``weights``, from :func:`arrange`, stand in for the published ones.
    """

    RATE = 16000
    WINDOW = 512
    CONTEXT = 64
    STRIDE = 128
    LOUDEST = 1e4
    """Beyond which nothing is louder to it: the square of more could overflow."""

    def __init__(self, sample_rate: int, weights: Mapping[str, Float32] | None = None) -> None:
        self._weights = _weights() if weights is None else weights
        self._resampler = Resampler(sample_rate, self.RATE)
        self._pending = np.zeros(0, np.float32)
        self._context = np.zeros(self.CONTEXT, np.float32)
        self._memory = np.zeros((2, 128), np.float32)

    @property
    def window(self) -> float:
        """Seconds of audio for each probability."""
        return self.WINDOW / self.RATE

    def hear(self, frame: Frame) -> list[float]:
        """Return a probability for each window that this frame completes."""
        heard = np.clip(self._resampler.push(frame.user_pcm), -self.LOUDEST, self.LOUDEST)
        samples = np.concatenate([self._pending, heard])
        whole = len(samples) // self.WINDOW * self.WINDOW
        self._pending = samples[whole:]
        return self._detect(samples[:whole]) if whole else []

    def state(self) -> dict[str, Float32]:
        """Return the detector's memory; the resampler's few milliseconds of past begin anew."""
        return {"context": self._context, "memory": self._memory, "pending": self._pending}

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        try:
            context, memory, pending = (state[name] for name in ("context", "memory", "pending"))
        except KeyError as error:
            raise StateError(f"the voice activity's state lacks {error}; export the conversation anew") from None
        shapes_fit = (context.shape, memory.shape) == (self._context.shape, self._memory.shape)
        if not shapes_fit or pending.ndim != 1 or len(pending) >= self.WINDOW:
            raise StateError("the voice activity's state has other shapes than its own; export the conversation anew")
        self._context, self._memory, self._pending = context, memory, pending

    def _detect(self, samples: Float32) -> list[float]:
        """Run the network over some windows of 512 samples at 16 kHz: side by side, up to what remembers."""
        weights, count = self._weights, samples.size // self.WINDOW
        windows = np.empty((count, 2 * self.CONTEXT + self.WINDOW), np.float32)
        own = windows[:, self.CONTEXT : -self.CONTEXT]
        own[:] = samples.reshape(count, self.WINDOW)
        windows[0, : self.CONTEXT], windows[1:, : self.CONTEXT] = self._context, own[:-1, -self.CONTEXT :]
        windows[:, -self.CONTEXT :] = own[:, -2 : -2 - self.CONTEXT : -1]  # mirrored
        self._context = samples[-self.CONTEXT :]
        x = _magnitudes(windows.reshape(count, -1, self.STRIDE), weights["stft_conv.weight"])
        for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = _convolve(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride)
        heard = x[:, 0] @ weights["lstm.weight_ih"] + weights["lstm.bias"]
        remembered = np.empty((count, self._memory.shape[1]), np.float32)
        for index in range(count):
            self._memory = _remember(heard[index], self._memory, weights["lstm.weight_hh"])
            remembered[index] = self._memory[0]
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


def _remember(heard: Float32, memory: Float32, weight: Float32) -> Float32:
    """Return the next hidden and cell state ``[2, 128]`` of the LSTM; ``heard`` is the window's part of its gates."""
    gates = (memory[0] @ weight + heard).reshape(4, -1)
    enter, forget, _, leave = _sigmoid(gates)
    new = np.empty_like(memory)
    new[1] = forget * memory[1] + enter * np.tanh(gates[2])
    new[0] = leave * np.tanh(new[1])
    return new


def _sigmoid(x: Float32) -> Float32:
    # In this form nothing overflows.
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)


@cache
def _weights() -> dict[str, Float32]:
    """Load the published weights, once."""
    from safetensors.numpy import load_file  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]

    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise MissingDependencyError("the voice activity detector needs silero-vad: pip install silero-vad")
    return arrange(load_file(Path(package.origin).parent / "data" / "silero_vad_16k.safetensors"))


def arrange(published: Mapping[str, Float32]) -> dict[str, Float32]:
    """Return the network's weights, under their published names, arranged for products with row vectors."""
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
