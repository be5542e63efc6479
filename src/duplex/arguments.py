"""Numbers that a caller gives, checked and made plain Python, so that they can be compared, stored and sent."""

import operator
from typing import Any

import numpy as np

from duplex.errors import UsageError

__all__ = ["real", "whole"]


def whole(name: str, value: Any) -> int:
    """Return a whole number of any type (Python's, numpy's) as an ``int``; ``name`` is the argument's, for messages.

    :raises UsageError: if it is none
    """
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise UsageError(f"{name} is {value!r}; give a whole number")


def real(name: str, value: Any) -> float:
    """Return a number of any type as a ``float``; ``name`` is the argument's, for messages.

    :raises UsageError: if it is none, or not a number (NaN)
    """
    if not isinstance(value, bool | np.bool_ | str | bytes | bytearray):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if number == number:  # noqa: PLR0124 -- NaN is not itself
            return number
    raise UsageError(f"{name} is {value!r}; give a number")
