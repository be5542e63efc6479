"""Reading a signal between its samples: conversion of sample rates whose ratio may change at any moment.

A windowed sinc at any position, which soxr's streams, of one ratio each, do not give: the position of every output
sample is known exactly, so two streams can be aligned, and following a clock never tears the signal.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interpolator"]

Float32 = NDArray[np.float32]

_PHASES = 4096
"""Positions between two samples that are told apart: what that adds is 80 dB down."""
_ZERO_CROSSINGS = 16
"""Of the sinc, on each side."""
_PASSBAND = 0.92
"""Share of the lower of the two bandwidths that passes; what would alias is 70 dB down."""
_KAISER_BETA = 7.0


class Interpolator:
    """Reads a stream at rising positions, counted in input samples from its beginning; before that it is silent."""

    def __init__(self, source_rate: float, target_rate: float) -> None:
        cutoff = min(1.0, target_rate / source_rate) * _PASSBAND
        self.half: int = math.ceil(_ZERO_CROSSINGS / cutoff)
        """Input samples that the filter looks ahead, and back."""
        self._kernels = _kernels(self.half, cutoff)
        self._samples = np.zeros(self.half, np.float32)
        self._start = -self.half
        self._fresh: list[Float32] = []
        self.received: int = 0
        """Input samples so far."""
        self.position: float = 0.0
        """Where the next output sample is read."""

    def push(self, pcm: Float32) -> None:
        """Take the next float32 ``[samples]`` of the input."""
        self._fresh.append(pcm)
        self.received += pcm.size

    def read(self, step: float, until: float = math.inf) -> Float32:
        """Return all output that can be computed, float32 of any length, a ``step`` of input samples between two.

        Only positions below ``until`` are read.
        """
        if self._fresh:
            self._samples = np.concatenate([self._samples, *self._fresh])
            self._fresh.clear()
        ready = min(self.received - self.half, until) - self.position
        count = max(0, math.ceil(ready / step))
        places = self.position - self._start + step * np.arange(count)
        whole = places.astype(np.int64)
        rows = np.rint((places - whole) * _PHASES).astype(np.int64)
        # All windows as one view; sliding_window_view is the same at fifty times the cost.
        shape = (max(self._samples.size - 2 * self.half + 1, 0), 2 * self.half)
        windows = np.ndarray(shape, np.float32, self._samples, strides=(4, 4))
        out = np.einsum("ij,ij->i", windows[whole - self.half + 1], self._kernels[rows])
        self.position += count * step
        self._forget()
        return out

    def _forget(self) -> None:
        """Let go of samples that no later position needs."""
        done = min(math.floor(self.position) - self.half, self.received - 2 * self.half) - self._start
        if done > 0:
            self._samples = self._samples[done:]
            self._start += done


@lru_cache(maxsize=16)
def _kernels(half: int, cutoff: float) -> Float32:
    """Return the filter at each phase, float32 ``[phases + 1, 2 * half]``, each row adding up to 1."""
    taps = np.arange(-half + 1, half + 1)
    distance = np.arange(_PHASES + 1)[:, None] / _PHASES - taps
    grid = np.linspace(0, 1, _PHASES)
    window = np.interp(np.abs(distance / half), grid, np.i0(_KAISER_BETA * np.sqrt(1 - grid**2)))
    kernels = np.sinc(cutoff * distance) * window
    return (kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32)
