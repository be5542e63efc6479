"""Checks of what is chosen about a run."""

from typing import Any

from duplex.errors import UsageError

__all__ = ["at_least", "check_seed"]

LARGEST_SEED = 2**31 - 1
"""The step fills the other half of 64 bits."""


def at_least(smallest: float) -> Any:
    """Return an attrs validator that takes numbers from ``smallest`` on."""

    def check(_: object, attribute: Any, value: float) -> None:
        if not value >= smallest:
            raise UsageError(f"'{attribute.name}' is {value}; give {smallest} or more")

    return check


def check_seed(_: object, __: Any, seed: int) -> None:
    """Check a seed, as an attrs validator."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"the seed is {seed}; give one from 0 to {LARGEST_SEED}")
