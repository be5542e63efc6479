"""Memory that has been freed, and that the C library keeps for later: after loading it is as large as the model."""

import contextlib
import ctypes

__all__ = ["give_back"]


def give_back() -> None:
    """Return it to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
