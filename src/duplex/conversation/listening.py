"""The user's audio from a transport to a seat: cut into exact frames, and live audio kept on time."""

from collections.abc import Callable

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Framer, as_mono_float32
from duplex.concurrency.notifiers import Notifier
from duplex.engine.pacing import LiveClock
from duplex.engine.seating import HeldSeat
from duplex.frame_model import ModelSpec
from duplex.transport import ExpectantTransport, InterruptibleTransport, Transport

__all__ = ["Listener"]


class Listener:
    """Cuts a transport's audio into frames, and pushes them to a seat until the audio is over.

    A transport that is not live is held back while many frames wait for the model. For a live one, silence stands in
    for audio that does not come, and ``report_late`` is called with the seconds of audio that came too late and were
    dropped. While the line of one is interrupted the conversation stands still; ``report_lost`` is then called with the
    agent's frames that were lost on it. ``lead`` samples of silence come before the audio. With ``lockstep`` a
    transport that is not live is held back until a frame's events are there, as :meth:`settle` tells: what follows from
    them then has its fixed place.
    """

    WAITING_FRAMES = 60
    """Frames that may wait for the model before a transport that is not live is held back."""
    TRANSLATION_SECONDS = 60.0
    """That a model that translates may go on for after the end of the source."""
    GRACE = 0.02
    """Seconds that the event loop may be late before audio that has arrived meanwhile is taken first."""

    def __init__(
        self,
        transport: Transport,
        seat: HeldSeat,
        spec: ModelSpec,
        report_late: Callable[[float], None],
        report_lost: Callable[[int], None],
        *,
        lead: int = 0,
        lockstep: bool = False,
    ) -> None:
        self.progress: Notifier = Notifier()
        """To be notified when the model has taken frames."""
        self._transport = transport
        self._seat = seat
        self._spec = spec
        self._report_late = report_late
        self._report_lost = report_lost
        self._interruptible = transport if isinstance(transport, InterruptibleTransport) else None
        self._still = False
        """Whether the conversation stands still, or has stood still and the time line has not passed over that yet."""
        self._framer = Framer(spec.frame_size)
        self._lead = lead
        self._settled = seat.index if lockstep else None
        """Before which frame all events are there, if that is waited for."""

    def settle(self, at: float) -> None:
        """Tell that the events of the frame ``at`` are there."""
        if self._settled is not None:
            self._settled = round(at * self._spec.frame_rate) + 1 + self._spec.latency_frames
            self.progress.notify_all()

    async def run(self) -> None:
        """Push the transport's audio until it is over, and then finish the seat."""
        await self._transport.start(self._spec.sample_rate)
        if self._lead:
            await self._take(np.zeros(self._lead, np.float32))
        if self._transport.realtime:
            away = 0.0 if self._interruptible is None else self._interruptible.away
            clock = LiveClock(self._spec.sample_rate, self._spec.frame_size, anyio.current_time() - away)
            self._still = away > 0
            self._pass_over(clock)
            await self._listen_live(clock)
        else:
            await self._listen()
        last = self._framer.flush()
        if last is not None:
            await self._push(last)
        if self._spec.kind == "hibiki":
            await self._await_translation()
        self._seat.finish()

    async def _await_translation(self) -> None:
        """Tell the model that the source has ended, and push silence until it has said all, or for too long."""
        self._seat.end_source()
        silence = np.zeros(self._spec.frame_size, np.float32)
        for _ in range(round(self.TRANSLATION_SECONDS * self._spec.frame_rate)):
            while self._seat.waiting and not self._seat.translated:
                await self.progress.wait()
            if self._seat.translated:
                return
            if self._transport.realtime:
                await anyio.sleep(self._spec.frame_duration)
            self._seat.push(silence)

    async def _listen(self) -> None:
        while True:
            try:
                pcm = await self._transport.receive()
            except anyio.EndOfStream:
                return
            await self._take(pcm)

    async def _listen_live(self, clock: LiveClock) -> None:
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._insert_silence, clock)
            expectant = self._transport if isinstance(self._transport, ExpectantTransport) else None
            while True:
                if expectant is not None:
                    expectant.expect(self._framer.missing)
                try:
                    pcm = await self._transport.receive()
                except anyio.EndOfStream:
                    break
                self._pass_over(clock)
                late = clock.arrived(len(pcm), anyio.current_time())
                if late:
                    self._report_late(late / self._spec.sample_rate)
                await self._take(pcm[late:])
            watching.cancel_scope.cancel()

    async def _insert_silence(self, clock: LiveClock) -> None:
        """Insert silence for live audio that does not arrive in time."""
        size = self._spec.frame_size
        while True:
            await self._stand_still(clock)
            asked = max(clock.wait(anyio.current_time()), 0.001)
            due = anyio.current_time() + asked
            await anyio.sleep(asked)
            if anyio.current_time() - due > self.GRACE:
                # The event loop was held up. What has arrived meanwhile is taken first.
                await anyio.sleep(self.GRACE)
            if self._interruptible is not None and self._interruptible.interrupted:
                continue
            passed, silent = clock.silence_due(anyio.current_time())
            if passed:
                self._seat.skip(passed)
            if silent:
                await self._take(np.zeros(silent * size, np.float32))

    async def _stand_still(self, clock: LiveClock) -> None:
        """Wait while nobody is on the line."""
        if self._interruptible is None or not self._interruptible.interrupted:
            return
        self._still = True
        lost = await self._interruptible.restored()
        self._pass_over(clock)
        if lost:
            self._report_lost(lost)

    def _pass_over(self, clock: LiveClock) -> None:
        """Let the time line go on after the conversation has stood still."""
        if not self._still or (self._interruptible is not None and self._interruptible.interrupted):
            return
        self._still = False
        passed = clock.pass_over(anyio.current_time())
        if passed:
            self._seat.skip(passed)

    async def _take(self, pcm: NDArray[np.float32]) -> None:
        for frame in self._framer.push(as_mono_float32(pcm)):
            await self._push(frame)

    async def _push(self, frame: NDArray[np.float32]) -> None:
        while not self._transport.realtime and self._seat.waiting >= self.WAITING_FRAMES:
            await self.progress.wait()
        self._seat.push(frame)
        while not self._transport.realtime and self._settled is not None and self._settled < self._seat.index:
            await self.progress.wait()
