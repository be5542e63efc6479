"""Trimming of the C allocator: after loading it keeps as much freed memory as the model is large."""

import contextlib
import ctypes

__all__ = ["trim"]


def trim() -> None:
    """Return it to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
