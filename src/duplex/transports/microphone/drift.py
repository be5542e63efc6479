"""How fast a device's clock is, from the times of its blocks.

A sound server's times are off in two ways: by some tenths of a millisecond at random, and by a few milliseconds that
stay for seconds (PulseAudio guesses between two messages of its server, and mends the guess bit by bit). Followed, the
second kind slides one stream against another, which an echo canceller does not survive; averaged as if it were the
first kind, it is followed. A Kalman filter that has both in its model waits until a clock's drift shows beyond them.
"""

import statistics

import numpy as np

__all__ = ["DriftFilter"]

INTERVAL = 0.5
"""Seconds of blocks of which the median is one measurement."""
_NOISE = 0.0005
"""Seconds that a measurement is off at random (standard deviation)."""
_WANDER, _WANDER_SECONDS = 0.006, 8.0
"""Seconds that the times wander, and for about how long."""
_DRIFT, _DRIFT_CHANGE = 130e-6, 1e-6
"""A clock's drift before anything is known, and by how much it changes in a second (times the root of seconds)."""


class DriftFilter:
    """Estimates where a stream is, against its nominal clock: ``offset`` in seconds, which grows by ``drift``."""

    def __init__(self) -> None:
        self._state = np.zeros(3)
        self._covariance = np.diag([0.0, _DRIFT**2, _WANDER**2])
        keep = float(np.exp(-INTERVAL / _WANDER_SECONDS))
        self._step = np.array([[1.0, INTERVAL, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, keep]])
        self._change = np.diag([0.0, _DRIFT_CHANGE**2 * INTERVAL, _WANDER**2 * (1 - keep**2)])
        self._times: list[float] = []
        self._seconds = 0.0

    @property
    def offset(self) -> float:
        """Seconds by which the stream is later than its nominal clock has it."""
        return float(self._state[0])

    @property
    def drift(self) -> float:
        """Share by which the stream is slower than its nominal clock."""
        return float(self._state[1])

    def restart(self) -> None:
        """Begin again at an offset of 0; what is known of the drift stays."""
        drift = self._covariance[1, 1]
        self._state[[0, 2]] = 0.0
        self._covariance = np.diag([0.0, drift, _WANDER**2])
        self._times.clear()
        self._seconds = 0.0

    def add(self, late: float, seconds: float) -> bool:
        """Take a block of so many seconds that was ``late``; return whether the estimate has changed."""
        self._times.append(late)
        self._seconds += seconds
        if self._seconds < INTERVAL:
            return False
        self._measure(statistics.median(self._times))
        self._times.clear()
        self._seconds = 0.0
        return True

    def _measure(self, late: float) -> None:
        state = self._step @ self._state
        covariance = self._step @ self._covariance @ self._step.T + self._change
        seen = covariance[:, 0] + covariance[:, 2]  # what is measured is the offset and the wander
        gain = seen / (seen[0] + seen[2] + _NOISE**2)
        self._state = state + gain * (late - state[0] - state[2])
        self._covariance = covariance - np.outer(gain, seen)
