"""Sampling noise that can be replayed on any backend: Philox4x32-10 (Salmon et al., 2011).

The key is the 64-bit seed, the counter ``(step, stream, index // 4, 0)``, the word ``index % 4``. Step 0 is the initial
step, stream 0 the text and ``1 + c`` codebook c, and ``index`` the vocabulary id. A word becomes
``u = ((word >> 8) + 0.5) / 2**24``, strictly between 0 and 1, and a token is the argmax of
``logit / temperature - log(-log(u))``. This module is the definition, in numpy; backends compute the same on their
devices, and their tests compare with it.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MULTIPLIERS", "ROUNDS", "WEYL", "gumbel", "philox4x32", "round_keys", "uniform"]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def round_keys(seed: int) -> list[tuple[int, int]]:
    """Return the two 32-bit words of the key of every round, for a 64-bit seed."""
    low, high = seed & 0xFFFFFFFF, seed >> 32
    return [((low + n * WEYL[0]) & 0xFFFFFFFF, (high + n * WEYL[1]) & 0xFFFFFFFF) for n in range(ROUNDS)]


def philox4x32(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Return the four random words of each counter, uint32 ``[..., 4]``, for a 64-bit seed as the key."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    for k0, k1 in round_keys(seed):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c2 = (second >> _HALF) ^ c1 ^ np.uint64(k0), (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & _LOW, first & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform(seed: int, step: int, stream: int, size: int) -> NDArray[np.float64]:
    """Return ``u`` for the vocabulary ids 0 to ``size - 1``, float64 ``[size]``, strictly between 0 and 1."""
    blocks = -(-size // 4)
    counter = np.zeros((blocks, 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2] = step, stream, np.arange(blocks)
    words = philox4x32(counter, seed).reshape(-1)[:size]
    return ((words >> np.uint32(8)).astype(np.float64) + 0.5) / 2**24


def gumbel(seed: int, step: int, stream: int, size: int) -> NDArray[np.float32]:
    """Return the noise that is added to the logits, float32 ``[size]``."""
    return (-np.log(-np.log(uniform(seed, step, stream, size)))).astype(np.float32)
