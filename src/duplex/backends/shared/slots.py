"""The state of a slot that the host keeps: options, counters, and the token log."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import Conditions
from duplex.options import SessionOptions

__all__ = ["LONGEST_LIFE", "Slot", "TokenLog"]

LONGEST_LIFE = 2**30
"""Frames of the longest conversation, over two years: counters are 32 bits on some devices."""


class TokenLog:
    """The tokens of every time step that has come out, int32 ``[steps, streams]``, in memory that grows by doubling."""

    def __init__(self, streams: int) -> None:
        self._held: NDArray[np.int32] = np.zeros((64, streams), np.int32)
        self._length = 0

    def append(self, column: NDArray[np.int64]) -> None:
        """Add one time step's tokens ``[streams]``."""
        if self._length == len(self._held):
            self._held = np.pad(self._held, ((0, self._length), (0, 0)))
        self._held[self._length] = column
        self._length += 1

    def replace(self, columns: NDArray[np.signedinteger[Any]]) -> None:
        """Take over a whole log, ``[steps, streams]``."""
        self._length = len(columns)
        self._held = np.zeros((max(64, self._length), columns.shape[1]), np.int32)
        self._held[: self._length] = columns

    @property
    def columns(self) -> NDArray[np.int32]:
        """All time steps so far, int32 ``[steps, streams]``."""
        return self._held[: self._length]


@attrs.define(eq=False)
class Slot:
    """What the host knows of a slot without asking the device."""

    options: SessionOptions
    log: TokenLog
    frames: int = 0
    """Frames that have gone in, prefilled ones included."""
    ahead: tuple[int, NDArray[np.int64]] = (-1, np.zeros((0, 0), np.int64))
    """Delayed tokens that a prompt fixed for steps to come, ``[streams, n]``, and the index of the first of them."""
    conditions: Conditions | None = None
    embedded: int = 0
    """Frames at the beginning of which the log does not have all tokens: from it alone nothing can be rebuilt."""
