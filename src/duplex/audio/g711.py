"""G.711: 16-bit samples in 8 bits on a logarithmic scale, as telephones carry them (ITU-T G.711, mu-law and A-law).

Both ways are one look into a table.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Law", "compress", "expand"]

Law = Literal["mulaw", "alaw"]
_BIAS = 0x84
"""That mu-law adds to a magnitude, so that each of its segments begins at a power of two."""
_CLIP = 32635
"""The largest magnitude that mu-law tells apart."""
_SIGN = 0x80
_MANTISSA_BITS = 4
_INVERTED = 0x55
"""The bits that A-law sends inverted."""


def expand(law: Law, codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the samples, int16 ``[samples]``, of codes of the same shape."""
    return _EXPANDED[law][codes]


def compress(law: Law, pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the codes, uint8 ``[samples]``, of samples of the same shape."""
    return _COMPRESSED[law][pcm.view(np.uint16)]


def _expanded_mulaw() -> NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + _BIAS) << ((code >> _MANTISSA_BITS) & 7)) - _BIAS
    return np.where(code & _SIGN, -magnitude, magnitude).astype(np.int16)


def _expanded_alaw() -> NDArray[np.int16]:
    code = np.arange(256) ^ _INVERTED
    segment, mantissa = (code >> _MANTISSA_BITS) & 7, code & 0x0F
    linear = (mantissa << 4) + 8
    magnitude = np.where(segment == 0, linear, (linear + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & _SIGN, magnitude, -magnitude).astype(np.int16)


def _all_samples() -> NDArray[np.int64]:
    """Return every 16-bit sample, at the place of its bits."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int64)


def _compressed_mulaw() -> NDArray[np.uint8]:
    pcm = _all_samples()
    magnitude = np.minimum(np.abs(pcm), _CLIP) + _BIAS
    segment = np.log2(magnitude).astype(np.int64) - 7
    mantissa = (magnitude >> (segment + 3)) & 0x0F
    return (~(np.where(pcm < 0, _SIGN, 0) | segment << _MANTISSA_BITS | mantissa) & 0xFF).astype(np.uint8)


def _compressed_alaw() -> NDArray[np.uint8]:
    pcm = _all_samples()
    magnitude = np.where(pcm < 0, ~pcm, pcm) >> 4
    segment = np.maximum(np.log2(np.maximum(magnitude, 1)).astype(np.int64) - 3, 0)
    mantissa = (magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    return ((np.where(pcm < 0, 0, _SIGN) | segment << _MANTISSA_BITS | mantissa) ^ _INVERTED).astype(np.uint8)


_EXPANDED: dict[Law, NDArray[np.int16]] = {"mulaw": _expanded_mulaw(), "alaw": _expanded_alaw()}
_COMPRESSED: dict[Law, NDArray[np.uint8]] = {"mulaw": _compressed_mulaw(), "alaw": _compressed_alaw()}
