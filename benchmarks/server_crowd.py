"""Many callers in one process, as light as they can be: what they cost is not there for the server beside them.

Each sends a recording's pages, encoded and framed before, one every 80 ms, from a moment of its own within the 80 ms,
and decodes nothing.
"""

import asyncio
import json
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from duplex.audio.opus import OpusWriter
from duplex.audio.pcm import Resampler
from duplex.transports import wire

__all__ = ["crowd"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "conversation.wav"
RATE, FRAME, SECONDS = 24000, 1920, 0.08
HEADER = 29
"""Bytes of a message in front of a packet."""
WARM_UP = 5.0
"""Seconds before what is measured counts."""


def pages() -> list[bytes]:
    """Return a recording's pages as they travel, the headers first, a frame in each of the others."""
    with av.open(str(EXAMPLE)) as container:
        rate = container.streams.audio[0].rate
        pcm = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).astype(np.float32) / 32768
    resampler = Resampler(rate, RATE)
    pcm = np.concatenate([resampler.push(pcm), resampler.flush()])
    writer = OpusWriter(RATE)
    whole = len(pcm) // FRAME * FRAME
    made = [writer.header(), *(writer.encode(pcm[start : start + FRAME]) for start in range(0, whole, FRAME))]
    return [Frame(Opcode.BINARY, wire.audio(page)).serialize(mask=True) for page in made]


class Caller(asyncio.Protocol):
    """One caller."""

    def __init__(self, url: str, sent: list[bytes], phase: float, figures: dict[str, Any]) -> None:
        self._client = ClientProtocol(parse_uri(f"{url}/api/chat?events=full"), max_size=None)
        self._header, *self._pages = sent
        self._phase = phase
        self._figures = figures
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._waiting: deque[float] = deque()
        """When the pages were sent that have no answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Call."""
        self._transport = cast("asyncio.Transport", transport)
        self._client.send_request(self._client.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hear the server."""
        self._client.receive_data(data)
        self._flush()
        for event in self._client.events_received():
            if isinstance(event, Response) and self._client.state is not State.OPEN:
                raise ConnectionError(f"the server answers {event.status_code}")
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._hear(bytes(event.data))

    def hang_up(self) -> None:
        """End."""
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._client.data_to_send():
            self._transport.write(data)

    def _hear(self, message: bytes) -> None:
        kind = message[0]
        if kind == wire.Kind.HANDSHAKE:
            self._transport.write(self._header)
            self._began = time.perf_counter() + self._phase
            self._loop.call_later(self._phase, self._decode)
        elif kind == wire.Kind.AUDIO and not message.startswith(b"OpusHead", HEADER):
            now = time.perf_counter()
            # An answer when none is due is one to silence that stood in.
            sent = self._waiting.popleft() if self._waiting else now
            if sent < now and now - self._began > WARM_UP:
                self._figures["latency"].append(now - sent)
        elif kind == wire.Kind.METADATA and (event := json.loads(message[1:]))["type"] == "Lag":
            # What was skipped or came late has no answer.
            for _ in range(min(len(self._waiting), round(event["dropped"] / SECONDS))):
                self._waiting.popleft()
            self._figures["dropped"] += event["dropped"]

    def _decode(self) -> None:
        if self._transport.is_closing():
            return
        self._waiting.append(time.perf_counter())
        self._transport.write(self._pages[self._count % len(self._pages)])
        self._count += 1
        # The loop's own clock may count in milliseconds.
        self._loop.call_later(self._began + self._count * SECONDS - time.perf_counter(), self._decode)


async def crowd(host: str, port: int, sessions: int, seconds: float) -> dict[str, Any]:
    """Hold so many conversations for so long; return the figures."""
    figures: dict[str, Any] = {"latency": [], "dropped": 0.0}
    loop, sent, url = asyncio.get_running_loop(), pages(), f"ws://{host}:{port}"
    callers: list[Caller] = []
    for index in range(sessions):
        phase = SECONDS * index / sessions
        made = await loop.create_connection(lambda phase=phase: Caller(url, sent, phase, figures), host, port)
        callers.append(made[1])
    await asyncio.sleep(seconds + WARM_UP)
    for caller in callers:
        caller.hang_up()
    latency = 1000 * np.array(figures["latency"])
    return {
        "frames": len(latency),
        "latency": {share: float(np.percentile(latency, share)) for share in (50, 95, 99)},
        "dropped_seconds": figures["dropped"],
    }
