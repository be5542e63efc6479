"""Mono audio as numbers: formats, frames, sample rates and levels. Pure: no files, no devices, no clocks.

Inside this package audio is float32, one dimension, nominally between -1 and 1. A value beyond that is loud, not wrong:
what writes 16-bit samples clips.
"""

import math
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import soxr  # pyright: ignore[reportMissingTypeStubs] -- it is annotated but does not say so
from numpy.typing import ArrayLike, NDArray

from duplex.errors import AudioError, UsageError

__all__ = [
    "MAXIMUM_RATE",
    "MINIMUM_RATE",
    "SILENCE_DBFS",
    "AudioLike",
    "Framer",
    "Resampler",
    "UserChannel",
    "as_mono_float32",
    "check_rate",
    "level_dbfs",
    "to_int16",
]

MINIMUM_RATE = 1000
MAXIMUM_RATE = 768_000
SILENCE_DBFS = -120.0
"""The lowest level that is told apart from silence; 16-bit audio's quietest sample is at -90."""

UserChannel: TypeAlias = Literal["left", "right", "mix"]
"""Which channel of a recording is the user: the first, the second, or the mean of all."""

AudioLike: TypeAlias = ArrayLike | bytes | bytearray | memoryview
"""Audio as :func:`as_mono_float32` takes it."""

_INT16_SCALE = 32768.0
_FLOAT_SIZES = (4, 8)

Float32 = NDArray[np.float32]


def as_mono_float32(pcm: AudioLike) -> Float32:
    """Return audio as float32 ``[samples]``; shares memory with ``pcm`` where nothing had to be converted.

    ``pcm`` is float32 or float64, taken as it is, or int16, scaled by 1/32768; it has one dimension of any length.
    Bytes (also a ``bytearray``, or a ``memoryview`` of bytes) are 16-bit little-endian samples.

    :raises AudioError: if it has another type or shape, ends within a sample, or holds NaN or infinity
    """
    array = _as_array(pcm)
    if array.ndim == 1 and array.dtype == np.float32 and math.isfinite(array.dot(array)):
        return array  # a live server's event loop does this thousands of times a second
    if array.ndim == 0:
        raise AudioError(
            f"audio is one {type(pcm).__name__}, but samples are wanted, shape (samples,); "
            "a transport is given when a conversation is made: Conversation(model, transport)"
        )
    if array.ndim != 1:
        raise AudioError(
            f"audio has the shape {array.shape}, but one channel is wanted, shape (samples,); "
            "pick one channel or average them"
        )
    if array.dtype.kind == "i" and array.dtype.itemsize == 2:  # noqa: PLR2004 -- bytes of an int16
        return array.astype(np.float32) / np.float32(_INT16_SCALE)
    if array.dtype.kind != "f" or array.dtype.itemsize not in _FLOAT_SIZES:
        raise AudioError(
            f"audio has the type {array.dtype}, but float32, float64 or int16 is wanted; "
            "convert it to float32 between -1 and 1"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinity, which is told below
        converted = array.astype(np.float32, copy=False)
        if math.isfinite(converted.sum()):
            return converted
    finite = np.isfinite(converted)
    if not finite.all():
        where = int(np.argmin(finite))
        raise AudioError(f"audio has NaN or infinity at sample {where}; mend it with numpy.nan_to_num, or skip it")
    return converted


def _as_array(pcm: Any) -> NDArray[Any]:
    if type(pcm) in {bytes, bytearray} or (type(pcm) is memoryview and pcm.format in {"B", "b", "c"}):
        samples = bytes(pcm)
        if len(samples) % 2:
            raise AudioError(
                f"{len(samples)} bytes of audio end within a sample; give 16-bit little-endian samples, two bytes each"
            )
        return np.frombuffer(samples, "<i2")
    if getattr(pcm, "requires_grad", False):
        raise AudioError("audio is a tensor that requires grad; give tensor.detach()")
    try:
        return np.asarray(pcm)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"audio is not an array of samples ({error}); give a one-dimensional float32 array") from None


def to_int16(pcm: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Return 16-bit samples of any shape: clipped to -1..1, rounded. Undoes :func:`as_mono_float32`; NaN becomes 0."""
    # Scaled by 32768, as most decoders do, full scale is one step too high.
    samples = np.clip(pcm, -1.0, 1.0) * _INT16_SCALE
    samples = np.minimum(np.rint(samples), _INT16_SCALE - 1)
    samples[np.isnan(samples)] = 0.0
    return samples.astype(np.int16)


def level_dbfs(pcm: Float32) -> float:
    """Return the root-mean-square level of float32 ``[samples]`` in dB below full scale, at least -120.

    >>> round(level_dbfs(np.full(1920, 0.1, dtype=np.float32)), 3)
    -20.0
    """
    if not pcm.size:
        return SILENCE_DBFS
    wide = pcm.astype(np.float64)
    power = float(np.dot(wide, wide)) / pcm.size
    return max(10 * float(np.log10(power)), SILENCE_DBFS) if power > 0 else SILENCE_DBFS


def check_rate(rate: int) -> int:
    """Return a sample rate in hertz that can be converted.

    :raises AudioError: if it is below 1000 or above 768000
    """
    if not MINIMUM_RATE <= rate <= MAXIMUM_RATE:
        raise AudioError(f"the sample rate is {rate} Hz; give one from {MINIMUM_RATE} to {MAXIMUM_RATE}")
    return rate


class Framer:
    """Cuts audio of any length into frames of ``frame_size`` samples.

    :raises UsageError: if ``frame_size`` is not positive
    """

    def __init__(self, frame_size: int) -> None:
        if frame_size < 1:
            raise UsageError(f"frame_size is {frame_size}; give a positive number of samples")
        self._frame_size = frame_size
        self._rest = np.zeros(0, dtype=np.float32)

    @property
    def pending(self) -> int:
        """Samples that wait for their frame to fill."""
        return self._rest.size

    @property
    def missing(self) -> int:
        """Samples that make the next frame full."""
        return self._frame_size - self._rest.size

    def push(self, pcm: Float32) -> list[Float32]:
        """Take float32 ``[samples]``; return the frames it completes, each a fresh float32 ``[frame_size]``."""
        samples = np.concatenate([self._rest, pcm]) if self._rest.size else pcm
        whole = samples.size - samples.size % self._frame_size
        # Copies, so that a frame stays what it was when the caller's buffer is used again.
        if whole < samples.size or self._rest.size:
            self._rest = np.array(samples[whole:], dtype=np.float32)
        return [
            np.array(samples[start : start + self._frame_size], dtype=np.float32)
            for start in range(0, whole, self._frame_size)
        ]

    def flush(self) -> Float32 | None:
        """Return what waits, padded with zeros to float32 ``[frame_size]``, or ``None``; then start afresh."""
        if not self._rest.size:
            return None
        frame = np.zeros(self._frame_size, dtype=np.float32)
        frame[: self._rest.size] = self._rest
        self._rest = np.zeros(0, dtype=np.float32)
        return frame


class Resampler:
    """Converts a stream's sample rate, piece by piece; of several ``channels``, pieces are ``[samples, channels]``.

    The whole stream comes out ``round(samples * target_rate / source_rate)`` samples long, within one, and in time: the
    filter's delay is made up for, so that output lags behind input only until :meth:`flush`.

    :raises AudioError: if a rate is below 1000 or above 768000
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int = 1) -> None:
        self.source_rate: int = check_rate(source_rate)
        self.target_rate: int = check_rate(target_rate)
        self._nothing = np.zeros(0 if channels == 1 else (0, channels), np.float32)
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, num_channels=channels, dtype="float32")

    def push(self, pcm: Float32) -> Float32:
        """Take float32 ``[samples]`` and return what is ready, float32 of any length, 0 included."""
        return self._convert(pcm, last=False)

    def flush(self) -> Float32:
        """Return the end of the stream, float32 of any length; the next :meth:`push` begins another stream."""
        rest = self._convert(self._nothing, last=True)
        if self._stream is not None:
            self._stream.clear()
        return rest

    def _convert(self, pcm: Float32, *, last: bool) -> Float32:
        if self._stream is None:
            return pcm
        # soxr takes plain contiguous arrays only; its annotations have no element type.
        piece = np.ascontiguousarray(pcm, dtype=np.float32)
        return cast("Float32", self._stream.resample_chunk(piece, last=last))
