"""How many cores of a CPU a thread computes on.

``torch.set_num_threads`` also sets what every later thread of the process begins with, for ever. OpenMP and MKL, which
do the computing, keep a number for each thread, so it is set there. Where torch computes with something else, or its
libraries cannot be reached, there is only torch's own setting, which is put back.
"""

import contextlib
import ctypes
import functools
from collections.abc import Callable, Generator
from typing import Any

import torch

__all__ = ["codes_on_one_core", "cores", "steps_on_one_core"]

SMALL_STEP = 64_000_000
"""Weights of a language model below which a step is too short to be shared: the cores would wait for each other."""
SMALL_CODEC = 32_000_000
"""The same for the codec alone."""

_TORCH: Any = getattr(torch, "_C", None)


@contextlib.contextmanager
def cores(count: int | None) -> Generator[None]:
    """Have this thread, and no other, compute on so many cores in a ``with`` block; ``None`` leaves it as it is."""
    before = torch.get_num_threads()  # the first call in a thread gives it the process's number
    if count is None or count == before:
        yield
        return
    omp, mkl = _setters()
    mkl_before = mkl(count)
    omp(count)
    try:
        yield
    finally:
        omp(before)
        mkl(mkl_before)


@functools.cache
def _setters() -> tuple[Callable[[int], Any], Callable[[int], int]]:
    """Return what sets a thread's number for OpenMP, and for MKL, which returns the one before."""
    try:
        # Symbols are looked up in the libraries that torch itself has been linked with.
        linked = ctypes.CDLL(str(_TORCH.__file__))
        omp = linked.omp_set_num_threads
    except (OSError, AttributeError):
        return torch.set_num_threads, _nothing
    omp.restype = None
    mkl = getattr(linked, "MKL_Set_Num_Threads_Local", _nothing)
    return omp, mkl


def _nothing(count: int) -> int:
    """Stand in for MKL, where torch has been built without it."""
    return count


def steps_on_one_core(weights: int) -> bool:
    """Return whether a model, of so many weights in its language model, is stepped on one core of a CPU."""
    return weights < SMALL_STEP


def codes_on_one_core(weights: int) -> bool:
    """Return whether a codec of so many weights, alone, computes on one core of a CPU."""
    return weights < SMALL_CODEC
