"""What a device's callbacks do, whoever calls them: copy into and out of bounded rings, and note the times.

:class:`SoundSystem` is what opens devices; :mod:`duplex.transports.microphone.portaudio` is the one of this machine.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.devices import AudioDevice
from duplex.transports.microphone.ring import Ring, TimedRing

__all__ = ["AudioLine", "CaptureBuffer", "PlaybackBuffer", "SoundSystem"]

Float32 = NDArray[np.float32]

RING_SECONDS = 2.0


class CaptureBuffer:
    """What a microphone has given and nobody has processed yet."""

    def __init__(self, rate: float, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self.ring: TimedRing = TimedRing(round(RING_SECONDS * rate), channels)
        self.overruns: int = 0
        self._wake: Callable[[], None] = _nothing
        self._wake_at = sys.maxsize

    def callback(self, block: Float32, time: float) -> None:
        """Take a block, float32 ``[samples, channels]``, whose first sample was heard at ``time``."""
        if len(block) > self.ring.free:
            self.overruns += 1
        self.ring.write_at(block, time)
        if self.ring.written >= self._wake_at:
            self._wake_at = sys.maxsize
            self._wake()

    def wake_at(self, position: int, wake: Callable[[], None]) -> None:
        """Have the callback call ``wake``, once, when the ring's ``written`` is at a position; it must not wait."""
        self._wake = wake
        self._wake_at = position
        if self.ring.written >= position:  # meanwhile: the callback may have missed it
            wake()


class PlaybackBuffer:
    """What waits for a loudspeaker, and what it has really been given."""

    def __init__(self, rate: float, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self.ring: Ring = Ring(round(RING_SECONDS * rate), channels)
        self.played: TimedRing = TimedRing(round(RING_SECONDS * rate), channels)
        self.last_sound: float = 0.0
        """When the last sample that was sent, and has been given to the device, is heard."""

    def callback(self, block: Float32, time: float) -> None:
        """Fill a block, float32 ``[samples, channels]``, whose first sample is heard at ``time``."""
        count = self.ring.read_into(block)
        block[count:] = 0
        self.played.write_at(block, time)
        if count:
            self.last_sound = time + count / self.rate


class AudioLine(Protocol):
    """An open stream of a device, which calls its buffer's callback."""

    @property
    def device(self) -> AudioDevice:
        """The device that was opened."""
        ...

    @property
    def moved_from(self) -> str:
        """Name of a device that is gone, whose stream the system has moved to ``device``; empty otherwise."""
        ...

    def is_alive(self) -> bool:
        """Whether the callback is still being called."""
        ...

    def close(self) -> None:
        """Stop. Calling it twice is harmless."""
        ...


class SoundSystem(Protocol):
    """What lists and opens devices. Its methods may wait, and are called in threads, one at a time."""

    def now(self) -> float:
        """Return the time that blocks are counted in, in seconds of a monotonic clock."""
        ...

    def refresh(self) -> None:
        """Look anew which devices there are; no stream may be open."""
        ...

    def devices(self) -> Sequence[AudioDevice]:
        """Return the devices."""
        ...

    def open_capture(self, device: AudioDevice) -> tuple[CaptureBuffer, AudioLine]:
        """Open a microphone at its own rate.

        :raises AudioDeviceError: if that fails
        """
        ...

    def open_playback(self, device: AudioDevice) -> tuple[PlaybackBuffer, AudioLine]:
        """Open a loudspeaker at its own rate.

        :raises AudioDeviceError: if that fails
        """
        ...


def _nothing() -> None:
    """Wake nobody."""
