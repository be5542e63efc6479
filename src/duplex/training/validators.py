"""attrs validators for the settings of a run."""

from typing import Any

from duplex.errors import UsageError

__all__ = ["at_least", "valid_seed"]

MAX_SEED = 2**31 - 1
"""The step fills the other half of 64 bits."""


def at_least(smallest: float) -> Any:
    """Return an attrs validator for numbers of at least ``smallest``."""

    def check(_: object, attribute: Any, value: float) -> None:
        if not value >= smallest:
            raise UsageError(f"'{attribute.name}' is {value}; give {smallest} or more")

    return check


def valid_seed(_: object, __: Any, seed: int) -> None:
    """Validate a seed, as an attrs validator.

    :raises UsageError: if it is out of range
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"the seed is {seed}; give one from 0 to {MAX_SEED}")
