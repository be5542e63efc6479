"""Where tokens stand in time: delayed sequences, and which time step comes out when.

Stream k of a model carries the token of time step t at index ``t + delays[k]`` of its delayed sequence. Step s of the
model reads index ``s - 1`` of every stream (the initial token where that is before the stream's beginning) and writes
index s of the streams it generates. Step 0, run when a slot opens, reads initial tokens only; user frame f enters at
step ``f + 1``. With a maximum delay of d, the agent's time step k is complete when user frame ``k + max(d, 1) - 1`` has
gone in (contract, section 2).
"""

import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import UNGENERATED

__all__ = ["delayed", "ring_length", "time_step_of"]


def time_step_of(frame: int, delays: tuple[int, ...]) -> int:
    """Return the time step that comes out when user frame ``frame`` (from 0) has gone in; negative for none."""
    return frame - max(max(delays) - 1, 0)


def ring_length(delays: tuple[int, ...]) -> int:
    """Return how many indices of the delayed sequences must be held at a time.

    After step s the oldest one wanted is ``s - max(d, 1)`` (text of the time step that comes out) and the newest one
    written is ``s - 1 + d`` (the user's most delayed code) or s.
    """
    deepest = max(delays)
    return max(deepest, 1) + max(deepest, 1) + 1


def delayed(tokens: NDArray[np.int64], delays: tuple[int, ...]) -> NDArray[np.int64]:
    """Shift int64 ``[streams, n]`` to ``[streams, n + max(delays)]``, with ``UNGENERATED`` where nothing is known."""
    streams, columns = tokens.shape
    shifted = np.full((streams, columns + max(delays)), UNGENERATED, np.int64)
    for stream, delay in enumerate(delays):
        shifted[stream, delay : delay + columns] = tokens[stream]
    return shifted
