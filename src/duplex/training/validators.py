"""attrs validators for the settings of a run."""

import math
from typing import Any

from duplex.arguments import as_float, as_int
from duplex.errors import UsageError
from duplex.parsing import shown

__all__ = ["at_least", "check_scale", "valid_seed"]

MAX_NUMBER = 1e15
"""Steps, frames, weights of losses: more than anybody can wait for."""
MAX_SCALE = 1e4
"""Of the usual amount: ten years of speech."""
MAX_SEED = 2**31 - 1
"""The step fills the other half of 64 bits."""


def at_least(smallest: float, most: float = MAX_NUMBER) -> Any:
    """Return an attrs validator for numbers from ``smallest`` to ``most``; integers where the field is one."""

    def check(_: object, attribute: Any, value: float) -> None:
        try:
            number = (as_int if attribute.type is int else as_float)(attribute.name, value)
        except UsageError:  # no number at all, or NaN
            number = math.nan
        if not number >= smallest:
            raise UsageError(f"'{attribute.name}' is {shown(value)}; give {smallest} or more")
        if number > most:
            raise UsageError(f"'{attribute.name}' is {shown(value)}; give {most:g} or less")

    return check


def valid_seed(_: object, __: Any, seed: int) -> None:
    """Validate a seed, as an attrs validator.

    :raises UsageError: if it is out of range
    """
    if not 0 <= as_int("seed", seed) <= MAX_SEED:
        raise UsageError(f"the seed is {shown(seed)}; give one from 0 to {MAX_SEED}")


def check_scale(scale: float) -> None:
    """Check how much data is to be made.

    :raises UsageError: if it is not above 0, or more than could ever be made
    """
    if not 0 < scale <= MAX_SCALE:
        raise UsageError(f"the scale is {shown(scale)}; give a number above 0, up to {MAX_SCALE:g}")
