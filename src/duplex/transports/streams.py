"""Building blocks of transports whose audio has another sample rate, or another clock, than the model.

:class:`ResampledReceiver` is the way in, :class:`PacedSender` the way out: a telephone's 8 kHz in packets of 20 ms, for
example. Both are used by one task at a time.
"""

from collections.abc import Awaitable, Callable

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Framer, Resampler
from duplex.errors import UsageError

__all__ = ["PacedSender", "Pacer", "ResampledReceiver"]

Float32 = NDArray[np.float32]


class ResampledReceiver:
    """Receives audio at ``source_rate``, and returns it at ``target_rate``, in hertz.

    ``receive`` waits for the next piece, float32 ``[samples]``, and raises ``anyio.EndOfStream`` after the last.

    :raises AudioError: if a rate is out of range
    """

    def __init__(self, receive: Callable[[], Awaitable[Float32]], source_rate: int, target_rate: int) -> None:
        self._receive = receive
        self._resampler = Resampler(source_rate, target_rate)
        self._flushed = False

    async def receive(self) -> Float32:
        """Wait for the next piece, float32 ``[samples]`` of a length above 0. Cancelling it loses no audio.

        :raises anyio.EndOfStream: when the audio is over, and all of it has been returned
        """
        while not self._flushed:
            try:
                pcm = self._resampler.push(await self._receive())
            except anyio.EndOfStream:
                self._flushed = True
                pcm = self._resampler.flush()
            if pcm.size:
                return pcm
        raise anyio.EndOfStream


class Pacer:
    """Spaces packets of audio by their durations: a packet is due when those before it have been played.

    Packets may be sent ``ahead`` seconds before they are due, so that a short delay is made up for. After a longer
    pause the schedule starts over; nothing is sent in a burst to catch up.

    :raises UsageError: if ``ahead`` is negative
    """

    def __init__(self, ahead: float = 0.0) -> None:
        if not ahead >= 0:
            raise UsageError(f"ahead is {ahead}; give seconds, 0 or more")
        self._ahead = ahead
        self._due = -np.inf

    async def wait(self, duration: float) -> None:
        """Wait until the next packet, of so many seconds of audio, is to be sent."""
        self._due = max(self._due, anyio.current_time())
        await anyio.sleep_until(self._due - self._ahead)
        self._due += duration


class PacedSender:
    """Sends audio of ``source_rate`` at ``target_rate``, in packets of equal length, at the pace of the clock.

    ``send`` is called with each packet, float32 ``[packet_seconds * target_rate]``, when it is to be sent; see
    :class:`Pacer` for ``ahead``.

    :raises AudioError: if a rate is out of range
    :raises UsageError: if a packet would have no samples, or ``ahead`` is negative
    """

    def __init__(
        self,
        send: Callable[[Float32], Awaitable[None]],
        source_rate: int,
        target_rate: int,
        *,
        packet_seconds: float = 0.02,
        ahead: float = 0.0,
    ) -> None:
        self._send = send
        self._resampler = Resampler(source_rate, target_rate)
        size = round(packet_seconds * target_rate)
        self._framer = Framer(size)
        self._pacer = Pacer(ahead)
        self._duration = size / target_rate

    async def send(self, pcm: Float32) -> None:
        """Send the packets that float32 ``[samples]`` complete; returns when the last of them has been sent."""
        await self._send_packets(self._framer.push(self._resampler.push(pcm)))

    async def finish(self) -> None:
        """Send what is left, the last packet padded with silence."""
        await self._send_packets(self._framer.push(self._resampler.flush()))
        last = self._framer.flush()
        if last is not None:
            await self._send_packets([last])

    async def _send_packets(self, packets: list[Float32]) -> None:
        for packet in packets:
            await self._pacer.wait(self._duration)
            await self._send(packet)
