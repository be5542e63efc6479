"""A caller's audio, as a transport of a conversation: coded in threads, carried by the caller's line.

What arrives before the conversation starts is read for its headers and not heard.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.wire_codecs import create_wire_codec
from duplex.concurrency.notifiers import Notifier, current_inbox
from duplex.engine.workers import Workers
from duplex.server.line import Line
from duplex.server.metrics import Metrics
from duplex.server.notice import play_notice
from duplex.server.observers import Observers
from duplex.server.telemetry.protocol import CallTrace
from duplex.server.wires.base import CallRequest, Wire

__all__ = ["CallerTransport"]

Float32 = NDArray[np.float32]
Given = TypeVar("Given")
Made = TypeVar("Made")


class CallerTransport:
    """The transport of one caller, in the formats that were asked for; ``sample_rate`` is the model's."""

    MAX_HELD_BACK = 30.0
    """Seconds of audio that may wait for the model, of a caller who is held back."""
    CODING_SHARE = 0.05
    """Of a core, that decoding one caller's audio may take; what takes longer counts for more sound than it has."""

    def __init__(
        self,
        line: Line[Wire],
        request: CallRequest,
        observers: Observers,
        *,
        sample_rate: int,
        metrics: Metrics,
        coders: Workers,
        trace: CallTrace | None = None,
        notice: Float32 | None = None,
    ) -> None:
        self._line = line
        self._observers = observers
        # What it encodes is the agent's voice; the caller's is only decoded.
        self._heard_codec = create_wire_codec(request.heard, sample_rate, synthetic=True)
        self._said_codec = self._heard_codec
        if request.said != request.heard:
            self._said_codec = create_wire_codec(request.said, sample_rate, synthetic=True)
        self._rate = sample_rate
        self._metrics = metrics
        self._coders = coders
        self._trace = trace
        self._notice = notice
        self._inbox = current_inbox()
        self._heard: deque[Float32] = deque()
        self._news = Notifier()
        self._held_back = request.held_back
        self._waiting = 0
        """Samples that have come and were not taken."""
        self._taken = Notifier()
        self._began = False
        self.heard_at: float = anyio.current_time()
        """When audio last came, or another sign that the caller is there."""
        self.muted: bool = False
        """Whether the model hears silence in the caller's place."""
        self._ended = False
        self._announced = anyio.Event()

    @property
    def realtime(self) -> bool:
        """Whether nobody holds the caller's voice back, as of all who speak while it is heard."""
        return not self._held_back

    async def hear(self, payload: bytes) -> None:
        """Take a message of audio; of a caller who is held back, wait until there is room for it.

        :raises AudioError: if it cannot be decoded, or more comes than a clock allows
        """
        codec = self._heard_codec
        damaged = codec.damaged
        decode = codec.decode if self._began or self._held_back else codec.read_header
        pcm, spent = await self._coded("decode", _timed, (decode, payload))
        if codec.damaged != damaged:
            self._metrics.damaged.inc(codec.damaged - damaged)
        if self._held_back:
            self._take(pcm)
            while self._waiting > self.MAX_HELD_BACK * self._rate and not self._ended:
                await self._taken.wait()
            return
        # What nobody hears yet is not decoded: of it the bytes count, as if they were samples.
        samples = pcm.size if self._began else len(payload) // 2
        self._line.keep_pace(max(samples / self._rate, spent / self.CODING_SHARE))
        self._take(pcm)

    @property
    def away(self) -> float:
        """Seconds that nobody was there before, of a call that goes on from another server."""
        return self._line.away

    @property
    def interrupted(self) -> bool:
        """Whether the line is broken, and the caller may come back."""
        return self._line.interrupted

    async def restored(self) -> int:
        """Wait until the caller is back; return how many frames of the agent's voice have been lost."""
        if not await self._line.restored():
            await anyio.sleep_forever()  # the call ends, and this with it
        self.heard_at = anyio.current_time()
        return self._line.take_lost_sounds()

    def hang_up(self) -> None:
        """Say that no more audio comes."""
        self._take(self._heard_codec.flush())
        self._end()

    async def wait_idle(self, seconds: float) -> None:
        """Wait until nobody has been there for so long; while the line is broken that is not the caller's fault."""
        due = anyio.current_time() + seconds
        while due > anyio.current_time():
            await anyio.sleep_until(due)
            due = max(due, (anyio.current_time() if self.interrupted else self.heard_at) + seconds)

    def announce(self) -> None:
        """Let the agent be heard: the caller knows that the conversation has started."""
        self._announced.set()

    async def start(self, sample_rate: int) -> None:
        """Tell the caller that the conversation begins, and play the notice if there is one; then the line is heard."""
        if self._notice is not None:
            await self._line.send(self._line.wire.started, self._said_codec.header())
            await play_notice(self._notice, sample_rate, self._play)
        self._began = True
        self.heard_at = anyio.current_time()
        self._line.reset_pace()
        if self._notice is None:
            await self._line.send(self._line.wire.started, self._said_codec.header())
        if self._line.away:
            await self._line.offer()
            self.announce()

    async def _play(self, pcm: Float32) -> None:
        """Let a piece be heard that is not the agent's."""
        self.heard_at = anyio.current_time()
        payload = await self._coded("encode", self._said_codec.encode, pcm)
        await self._line.send(self._line.wire.audio, pcm, payload)

    async def receive(self) -> Float32:
        """Wait for the caller's next audio, float32 ``[samples]``.

        :raises anyio.EndOfStream: when no more comes
        """
        while not self._heard:
            if self._ended:
                raise anyio.EndOfStream
            await self._news.wait()
        pcm = self._heard.popleft()
        self._waiting -= pcm.size
        self._taken.notify_all()
        return pcm

    async def send(self, pcm: Float32) -> None:
        """Send a frame of the agent's audio, unless the wire leaves it out."""
        if not self._announced.is_set():
            await self._announced.wait()
        if not self._line.wire.wants(pcm):
            return
        began = 0 if self._trace is None else time.time_ns()
        payload = await self._coded("encode", self._said_codec.encode, pcm)
        await self._line.send(self._line.wire.audio, pcm, payload)
        if self._trace is not None:
            self._trace.sent(began, len(payload))

    async def finish(self) -> None:
        """All has been sent."""

    async def aclose(self) -> None:
        """Let go of what was not heard."""
        self._end()
        self._heard.clear()

    def _take(self, pcm: Float32) -> None:
        if pcm.size:
            self.heard_at = anyio.current_time()
            self._observers.hear(pcm)
            self._waiting += pcm.size
            self._heard.append(np.zeros_like(pcm) if self.muted else pcm)
            self._news.notify_all()

    def _end(self) -> None:
        self._ended = True
        self._news.notify_all()
        self._taken.notify_all()

    async def _coded(self, stage: str, code: Callable[[Given], Made], given: Given) -> Made:
        """Code in a thread; the time counts the wait for it."""
        began = time.perf_counter()
        try:
            return await self._coders.run(code, given, self._inbox)
        finally:
            self._metrics.stages[stage].observe(time.perf_counter() - began)


def _timed(given: tuple[Callable[[bytes], Float32], bytes]) -> tuple[Float32, float]:
    """Return the decoded audio, float32 ``[samples]``, and the seconds of this thread that it took."""
    decode, payload = given
    began = time.thread_time()
    pcm = decode(payload)
    return pcm, time.thread_time() - began
