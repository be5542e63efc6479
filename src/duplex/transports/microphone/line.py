"""From a device's blocks to the user's audio, and from the agent's to a device: no clocks, no waiting.

Microphone -> mono -> grid of the monotonic clock -> blocks of 10 ms -> echo taken out, with what the loudspeaker really
played on the same grid -> the user's audio. :class:`duplex.MicrophoneTransport` says when.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.alignment import LEAD, BlockCutter, FarEnd
from duplex.transports.microphone.clocks import ClockedStream
from duplex.transports.microphone.echo import EchoCanceller, EchoMeter
from duplex.transports.microphone.margin import Margin
from duplex.transports.microphone.meters import InputWatch, LevelMeter
from duplex.transports.microphone.playback import JitterBuffer
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer

__all__ = ["Line"]

Float32 = NDArray[np.float32]

BLOCKS_PER_SECOND = 100
PATIENCE = 0.08
"""Seconds that a block waits at most for what was played meanwhile to be known."""
SLACK = 0.002
"""Seconds by which a device's block may be short of what it was at first, before a block of ours waits for the next."""


class Line:
    """Both directions at ``rate``. Devices may be changed at any time: :meth:`connect`, :meth:`disconnect`."""

    def __init__(self, rate: int, canceller: EchoCanceller | None, *, cancels_echo: bool = True) -> None:
        self.rate: int = rate
        self._size = rate // BLOCKS_PER_SECOND
        self._canceller = canceller
        self._cancels_echo = canceller is not None and cancels_echo
        self._blocks = BlockCutter(self._size, round(SLACK * rate))
        self._far = FarEnd(rate)
        self._capture: CaptureBuffer | None = None
        self._playback: PlaybackBuffer | None = None
        self._overruns = self._underruns = 0
        self._lost = (0, 0)
        self._margin = Margin()
        self.position: int = 0
        """Index on the grid after the last sample that was given out."""
        self.near_clock: ClockedStream | None = None
        self.far_clock: ClockedStream | None = None
        self.watch: InputWatch = InputWatch(rate)
        self.input_meter: LevelMeter = LevelMeter(rate)
        self.output_meter: LevelMeter = LevelMeter(rate)
        self.echo: EchoMeter = EchoMeter(self._size)
        self.jitter: JitterBuffer | None = None

    @property
    def overruns(self) -> int:
        """How often a device's audio was lost because nobody took it."""
        return self._overruns + (self._capture.overruns if self._capture else 0)

    @property
    def underruns(self) -> int:
        """How often the agent's audio came too late."""
        return self._underruns + (self.jitter.underruns if self.jitter else 0)

    def connect(self, capture: CaptureBuffer, playback: PlaybackBuffer) -> None:
        """Go on with these devices."""
        self.disconnect()
        self._capture, self._playback = capture, playback
        self.near_clock = ClockedStream(capture.rate, self.rate)
        self.far_clock = ClockedStream(playback.rate, self.rate, finds_losses=False)
        self.watch = InputWatch(capture.rate)
        self.output_meter = LevelMeter(playback.rate)
        self._lost = (0, 0)
        self.jitter = JitterBuffer(playback.ring, self.rate, playback.rate, playback.channels, self._margin)

    def disconnect(self) -> None:
        """Go on without devices; what waits is lost."""
        self._overruns, self._underruns = self.overruns, self.underruns
        self._capture = self._playback = self.near_clock = self.far_clock = self.jitter = None

    def advance(self, now: float) -> Float32:
        """Return the user's audio that has become ready, float32 of any length."""
        self._take_played()
        self._take_captured()
        done: list[Float32] = []
        while count := self._ready(now):
            done.append(self._process(count))
        return np.concatenate(done) if done else np.zeros(0, np.float32)

    def wake(self, missing: int, wake: Callable[[], None]) -> bool:
        """Have a device's thread call ``wake`` when so many samples more can be given out.

        Return False, and wake nobody, where the microphone has given them: what was played then is not known yet.
        """
        if self._capture is None:
            return True  # when there is a device again, somebody looks
        blocks = math.ceil(missing / self._size)
        needed = (blocks * self._size - self._blocks.held) * self._capture.rate / self.rate
        if needed <= 0:
            return False
        # A sample less than that, rather than one more, for which another block of the device would be waited for.
        self._capture.wake_at(self._capture.ring.taken + math.ceil(needed) - 1, wake)
        return True

    def _ready(self, now: float) -> int:
        """Return how many blocks can be processed at once: those whose far end is known, or that have waited."""
        start, full = self._blocks.next()
        if not (full and self._cancels_echo and self._playback):
            return full
        known = (self._far.end - round(LEAD * self.rate) - start) // self._size
        waited = math.ceil(((now - PATIENCE) * self.rate - start) / self._size)
        return min(full, max(known, waited, 0))

    def _take_captured(self) -> None:
        if self._capture is None or self.near_clock is None:
            return
        ring = self._capture.ring
        if blocks := ring.take():
            # What is lost found the ring full: the gap comes with the blocks that are taken next.
            lost, self._lost = ring.lost > self._lost[0], (self._lost[1], ring.lost)
            for mono, time in _mono(blocks, self.watch.add):
                self.near_clock.push(mono, time, lost=lost)
        self._blocks.push(self.near_clock.take())

    def _take_played(self) -> None:
        if self._playback is None or self.far_clock is None:
            return
        if blocks := self._playback.played.take():
            for mono, time in _mono(blocks, self.output_meter.add):
                if self._cancels_echo:
                    self.far_clock.push(mono, time)
        for piece in self.far_clock.take():
            self._far.write(piece)

    def _process(self, count: int) -> Float32:
        start, _ = self._blocks.next()
        near = self._blocks.take(count)
        self.position = start + near.size
        out = near
        if self._canceller is not None:
            far = self._far.read(start + round(LEAD * self.rate), near.size)
            out = self._canceller.process(near, far)
            if self._cancels_echo:
                self.echo.add(near, far, out)
        self.input_meter.add(out)
        return out


def _mono(
    blocks: Sequence[tuple[Float32, float]], look: Callable[[Float32], Float32]
) -> Iterator[tuple[Float32, float]]:
    """Give a device's blocks, in one channel, when ``look`` has seen (and cleaned) all of them at once."""
    whole = np.concatenate([block for block, _ in blocks])
    # Of two channels at most, and their sum is ten times as quick as numpy's mean over so short an axis.
    mono = look((whole[:, 0] + whole[:, 1]) * np.float32(0.5) if whole.shape[1] > 1 else whole[:, 0])
    start = 0
    for block, time in blocks:
        yield mono[start : start + len(block)], time
        start += len(block)
