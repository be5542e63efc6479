"""Loudness by ITU-R BS.1770-4: K-weighted, gated, of one channel.

The filters are designed for the sample rate at hand, as in the programs that published models were trained with.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.errors import AudioError

__all__ = ["at_loudness", "loudness_lufs"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BLOCK_SECONDS = 0.4
BLOCKS_PER_LENGTH = 4
"""They overlap by three quarters."""
SILENCE_LUFS = -70.0
"""Blocks below do not count."""
RELATIVE_GATE = -10.0
OFFSET = -0.691
SHELF_GAIN, SHELF_HERTZ, SHELF_Q = 4.0, 1500.0, 1 / np.sqrt(2)
HIGH_PASS_HERTZ, HIGH_PASS_Q = 38.0, 0.5


def loudness_lufs(pcm: Float32, sample_rate: int) -> float:
    """Return the integrated loudness of float32 ``[samples]``, in LUFS.

    :raises AudioError: if it is shorter than a block of 0.4 s, or silent
    """
    length = int(BLOCK_SECONDS * sample_rate)
    if len(pcm) < length:
        raise AudioError(
            f"a loudness needs {BLOCK_SECONDS:g} s of audio or more; this has {len(pcm) / sample_rate:g} s"
        )
    weighted = pcm.astype(np.float64)
    for b, a in (_shelf(sample_rate), _high_pass(sample_rate)):
        weighted = _filtered(weighted, b, a, sample_rate)
    hop = BLOCK_SECONDS / BLOCKS_PER_LENGTH
    count = round((len(pcm) / sample_rate - BLOCK_SECONDS) / hop) + 1
    starts = (int(BLOCK_SECONDS * (block / BLOCKS_PER_LENGTH) * sample_rate) for block in range(count))
    powers = np.array([np.square(weighted[start : start + length]).sum() / length for start in starts])
    audible = powers[_lufs(powers) > SILENCE_LUFS]
    if not audible.size:
        raise AudioError("there is nothing but silence in it; give a recording of somebody who speaks")
    loud = audible[_lufs(audible) > _lufs(audible.mean()) + RELATIVE_GATE]
    return float(_lufs(loud.mean()))


def at_loudness(pcm: Float32, sample_rate: int, lufs: float) -> Float32:
    """Return float32 ``[samples]`` scaled to a loudness.

    :raises AudioError: if it is too short to have one, or silent
    """
    gain = 10 ** ((lufs - loudness_lufs(pcm, sample_rate)) / 20)
    return (pcm * gain).astype(np.float32)


def _lufs(power: "Float64 | np.float64") -> Float64:
    with np.errstate(divide="ignore"):
        return np.asarray(OFFSET + 10 * np.log10(power))


def _shelf(sample_rate: int) -> tuple[Float64, Float64]:
    """Return the coefficients of the shelf that stands for the head."""
    gain = 10 ** (SHELF_GAIN / 40)
    omega = 2 * np.pi * SHELF_HERTZ / sample_rate
    cosine, alpha = np.cos(omega), np.sin(omega) / (2 * SHELF_Q)
    root = 2 * np.sqrt(gain) * alpha
    b = gain * np.array(
        [
            gain + 1 + (gain - 1) * cosine + root,
            -2 * (gain - 1 + (gain + 1) * cosine),
            gain + 1 + (gain - 1) * cosine - root,
        ]
    )
    a = np.array(
        [
            gain + 1 - (gain - 1) * cosine + root,
            2 * (gain - 1 - (gain + 1) * cosine),
            gain + 1 - (gain - 1) * cosine - root,
        ]
    )
    return b / a[0], a / a[0]


def _high_pass(sample_rate: int) -> tuple[Float64, Float64]:
    omega = 2 * np.pi * HIGH_PASS_HERTZ / sample_rate
    cosine, alpha = np.cos(omega), np.sin(omega) / (2 * HIGH_PASS_Q)
    b = np.array([(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2])
    a = np.array([1 + alpha, -2 * cosine, 1 - alpha])
    return b / a[0], a / a[0]


def _filtered(x: Float64, b: Float64, a: Float64, sample_rate: int) -> Float64:
    """Run a filter of second order over ``x``, from rest.

    It is recursive, so it is computed by its spectrum: in the second that is added, what these filters remember is far
    below the last bit.
    """
    length = len(x) + sample_rate
    turn = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    response = np.polyval(b[::-1], turn) / np.polyval(a[::-1], turn)
    return np.fft.irfft(np.fft.rfft(x, length) * response, length)[: len(x)]
