"""From a device's blocks to the user's audio, and from the agent's to a device: no clocks, no waiting.

Microphone -> mono -> grid of the monotonic clock -> blocks of 10 ms -> echo taken out, with what the loudspeaker really
played on the same grid -> the user's audio. :class:`duplex.MicrophoneTransport` says when.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.alignment import LEAD, BlockCutter, FarEnd
from duplex.transports.microphone.clocks import ClockedStream
from duplex.transports.microphone.echo import EchoCanceller, EchoMeter
from duplex.transports.microphone.meters import InputWatch, LevelMeter
from duplex.transports.microphone.playback import MARGIN_LEAST, JitterBuffer
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer

__all__ = ["Line"]

Float32 = NDArray[np.float32]

BLOCKS_PER_SECOND = 100
PATIENCE = 0.08
"""Seconds that a block waits at most for what was played meanwhile to be known."""


class Line:
    """Both directions at ``rate``. Devices may be changed at any time: :meth:`connect`, :meth:`disconnect`."""

    def __init__(self, rate: int, canceller: EchoCanceller | None, *, cancels_echo: bool = True) -> None:
        self._rate = rate
        self._size = rate // BLOCKS_PER_SECOND
        self._canceller = canceller
        self._cancels_echo = canceller is not None and cancels_echo
        self._blocks = BlockCutter(self._size)
        self._far = FarEnd(rate)
        self._capture: CaptureBuffer | None = None
        self._playback: PlaybackBuffer | None = None
        self._overruns = self._underruns = 0
        self._lost = (0, 0)
        self._margin = MARGIN_LEAST
        self.near_clock: ClockedStream | None = None
        self.far_clock: ClockedStream | None = None
        self.watch: InputWatch = InputWatch(rate)
        self.input_meter: LevelMeter = LevelMeter(rate)
        self.output_meter: LevelMeter = LevelMeter(rate)
        self.echo: EchoMeter = EchoMeter()
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
        self.near_clock = ClockedStream(capture.rate, self._rate)
        self.far_clock = ClockedStream(playback.rate, self._rate)
        self.watch = InputWatch(capture.rate)
        self.output_meter = LevelMeter(playback.rate)
        self._lost = (0, 0)
        self.jitter = JitterBuffer(playback.ring, self._rate, playback.rate, playback.channels, self._margin)

    def disconnect(self) -> None:
        """Go on without devices; what waits is lost."""
        self._overruns, self._underruns = self.overruns, self.underruns
        self._margin = self.jitter.margin if self.jitter else self._margin
        self._capture = self._playback = self.near_clock = self.far_clock = self.jitter = None

    def advance(self, now: float) -> Float32:
        """Return the user's audio that has become ready, float32 of any length."""
        self._take_played()
        self._take_captured()
        done: list[Float32] = []
        while (start := self._blocks.next_start()) is not None:
            needed = start + round(LEAD * self._rate) + self._size
            if self._cancels_echo and self._playback and self._far.end < needed and now - start / self._rate < PATIENCE:
                break
            done.append(self._process(start))
        return np.concatenate(done) if done else np.zeros(0, np.float32)

    def _take_captured(self) -> None:
        if self._capture is None or self.near_clock is None:
            return
        ring = self._capture.ring
        if blocks := ring.take():
            # What is lost found the ring full: the gap comes with the blocks that are taken next.
            lost, self._lost = ring.lost > self._lost[0], (self._lost[1], ring.lost)
            for block, time in blocks:
                mono = self.watch.add(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])
                self.near_clock.push(mono, time, lost=lost)
        for piece in self.near_clock.take():
            self._blocks.push(piece)

    def _take_played(self) -> None:
        if self._playback is None or self.far_clock is None:
            return
        for block, time in self._playback.played.take():
            mono = block[:, 0]  # the agent has one channel
            self.output_meter.add(mono)
            if self._cancels_echo:
                self.far_clock.push(mono, time)
        for piece in self.far_clock.take():
            self._far.write(piece)

    def _process(self, start: int) -> Float32:
        near = self._blocks.take()
        out = near
        if self._canceller is not None:
            far = self._far.read(start + round(LEAD * self._rate), self._size)
            out = self._canceller.process(near, far)
            if self._cancels_echo:
                self.echo.add(near, far, out)
        self.input_meter.add(out)
        return out
