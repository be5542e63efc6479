"""A caller's audio line: messages in and out of a websocket, as a transport of a conversation.

Coding runs in threads. What arrives before the conversation starts is read for its headers and not heard.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.wire_codecs import WireCodec
from duplex.engine.notifiers import Notifier
from duplex.engine.workers import Workers
from duplex.errors import AudioError
from duplex.server.metrics import Metrics
from duplex.server.pace import FRAME_SECONDS, LeakyBucket
from duplex.transports import wire

__all__ = ["CallerTransport"]

Float32 = NDArray[np.float32]
Given = TypeVar("Given")
Made = TypeVar("Made")


class CallerTransport:
    """The transport of one caller, whose audio is at the model's rate. ``send`` sends one websocket message."""

    CODING_SHARE = 0.05
    """Of a core, that decoding one caller's audio may take; what takes longer counts for more sound than it has."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        codec: WireCodec,
        *,
        sample_rate: int,
        metrics: Metrics,
        coders: Workers,
    ) -> None:
        self._send = send
        self._codec = codec
        self._rate = sample_rate
        self._metrics = metrics
        self._coders = coders
        self._heard: deque[Float32] = deque()
        self._news = Notifier()
        self._began = False
        self.heard_at: float = anyio.current_time()
        """When audio last came."""
        self._ended = False
        self._pace = LeakyBucket(self.heard_at)

    @property
    def realtime(self) -> bool:
        """True: nobody holds a caller's voice back."""
        return True

    async def hear(self, payload: bytes) -> None:
        """Take a message of audio.

        :raises AudioError: if it cannot be decoded, or more comes than a clock allows
        """
        damaged = self._codec.damaged
        decode = self._codec.decode if self._began else self._codec.read_header
        pcm, spent = await self._coded("decode", partial(_timed, decode), payload)
        self._metrics.damaged.inc(self._codec.damaged - damaged)
        # What nobody hears yet is not decoded: of it the bytes count, as if they were samples.
        samples = pcm.size if self._began else len(payload) // 2
        self.keep_pace(max(samples / self._rate, spent / self.CODING_SHARE))
        if not pcm.size:
            return
        self.heard_at = anyio.current_time()
        self._heard.append(pcm)
        self._news.notify_all()

    def keep_pace(self, seconds: float = 0.0) -> None:
        """Count a message.

        :raises AudioError: if more comes than a clock allows
        """
        if not self._pace.pour(max(seconds, FRAME_SECONDS), anyio.current_time()):
            raise AudioError("audio comes faster than it is spoken; send it at the pace of a clock")

    def hang_up(self) -> None:
        """Say that no more audio comes."""
        self._ended = True
        self._news.notify_all()

    async def start(self, sample_rate: int) -> None:  # noqa: ARG002 -- the codec has the model's rate already
        """Tell the caller that the conversation begins; from now on the line is heard."""
        self._began = True
        self.heard_at = anyio.current_time()
        self._pace = LeakyBucket(self.heard_at)
        await self._send(wire.handshake())
        header = self._codec.header()
        if header:
            await self._send(wire.audio(header))

    async def receive(self) -> Float32:
        """Wait for the caller's next audio, float32 ``[samples]``.

        :raises anyio.EndOfStream: when no more comes
        """
        while not self._heard:
            if self._ended:
                raise anyio.EndOfStream
            await self._news.wait()
        return self._heard.popleft()

    async def send(self, pcm: Float32) -> None:
        """Send a frame of the agent's audio."""
        await self._send(wire.audio(await self._coded("encode", self._codec.encode, pcm)))

    async def finish(self) -> None:
        """All has been sent."""

    async def aclose(self) -> None:
        """Let go of what was not heard."""
        self.hang_up()
        self._heard.clear()

    async def _coded(self, stage: str, code: Callable[[Given], Made], given: Given) -> Made:
        """Code in a thread; the time counts the wait for it."""
        with self._metrics.timed(stage):
            return await self._coders.run(code, given)


def _timed(decode: Callable[[bytes], Float32], payload: bytes) -> tuple[Float32, float]:
    """Return the decoded audio, float32 ``[samples]``, and the seconds of this thread that it took."""
    began = time.thread_time()
    pcm = decode(payload)
    return pcm, time.thread_time() - began
