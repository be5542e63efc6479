"""Attackers of a server, in one process beside it, each as fast as it gets: what they send is made before.

An attack is a number of lines, each of which calls, does its worst until it is cut off, and calls again. The attackers
know a token, except where they are said to guess.
"""

import asyncio
import contextlib
import json
import os
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import attrs
from websockets.frames import Frame, Opcode

from duplex.audio.ogg import OggWriter
from duplex.audio.opus import OpusWriter
from duplex.transports import wire

__all__ = ["ATTACKS", "Target", "attack"]

PATIENCE = 40.0
"""Seconds after which a line that has not been cut off calls again: more than the server's deadline."""
ROUNDS = 200
"""Writes in one round of a flood."""
NOISE = random.Random(0)  # noqa: S311 -- no secret
CONTEXT = ssl.create_default_context()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@attrs.frozen
class Target:
    """The server that is attacked, and what became of it."""

    port: int
    token: str
    told: Counter[str]
    """Connections by their first answer."""

    def request(self, line: str, *headers: str) -> bytes:
        """Return a request as it travels."""
        return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()

    def upgrade(self, line: str, *headers: str) -> bytes:
        """Return a request for a websocket."""
        return self.request(
            line,
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Authorization: Bearer {self.token}",
            *headers,
        )

    @contextlib.asynccontextmanager
    async def line(self, first: bytes = b"") -> AsyncGenerator[Streams]:
        """Open a connection and send something; what goes wrong on it is what was to be expected."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(first)
                    yield reader, writer
                finally:
                    writer.transport.abort()
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self.told[type(error).__name__] += 1

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Wait for the first answer, and count it."""
        head = await reader.readuntil(b"\r\n")
        self.told[head[9:12].decode(errors="replace")] += 1

    @contextlib.asynccontextmanager
    async def call(self, query: str = "") -> AsyncGenerator[Streams]:
        """Open a websocket, read by nobody who would mind."""
        async with self.line(self.upgrade(f"GET /api/chat{query}")) as (reader, writer):
            await self.answer(reader)
            await reader.readuntil(b"\r\n\r\n")
            reading = asyncio.ensure_future(_swallow(reader))
            try:
                yield reader, writer
            finally:
                reading.cancel()


async def _swallow(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass


def _message(payload: bytes, opcode: Opcode = Opcode.BINARY, *, whole: bool = True) -> bytes:
    return Frame(opcode, payload, fin=whole).serialize(mask=True)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send the same for ever, as fast as it is taken."""
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)


async def upgrades(target: Target, number: int) -> None:
    """Ask for an upgrade that is no handshake, and wait."""
    first = (
        target.upgrade("POST /api/chat", "Content-Length: 10")
        if number % 2
        else target.upgrade("GET /api/chat", "Content-Length: 10") + bytes(10)
    )
    async with target.line(first) as (reader, _):
        await target.answer(reader)
        await reader.read()


FLOODS = (
    _message(b"", Opcode.PONG) * ROUNDS,
    _message(b"x", Opcode.PING) * ROUNDS,
    _message(b"", whole=False) + _message(b"", Opcode.CONT, whole=False) * ROUNDS,
    _message(b"\x06") * ROUNDS,
    _message(b"") * ROUNDS,
    _message(b"\xff", Opcode.TEXT) * ROUNDS,
)


async def floods(target: Target, number: int) -> None:
    """Send small frames of one kind."""
    async with target.call("?format=pcm") as (_, writer):
        await _send(writer, FLOODS[number % len(FLOODS)])


def _damaged() -> tuple[bytes, list[bytes]]:
    """Return the headers, and messages of pages whose packets are empty, one byte long, or noise."""
    made: list[bytes] = []
    for packet in (b"", b"\xff", NOISE.randbytes(200)):
        writer, pages = OggWriter(0), b""
        writer.page([b"x"], 0)
        writer.page([b"y"], 0)
        while len(pages) < 40_000:
            pages += writer.page([packet] * 255 if len(packet) < 2 else [packet] * 100, 0)
        made.append(_message(wire.audio(pages[:65_000])))
    return _message(wire.audio(OpusWriter(24000).header())), made


HEADER, DAMAGED = _damaged()


async def damaged(target: Target, number: int) -> None:
    """Send packets of Opus that cannot be decoded: first of all whoever gets a place, the others from the queue."""
    async with target.call() as (_, writer):
        writer.write(HEADER)
        await _send(writer, DAMAGED[number % len(DAMAGED)])


async def silent(target: Target, number: int) -> None:
    """Say nothing, or a byte a second, or half of a request, or begin TLS and go no further."""
    first = (b"", b"GET / HT", target.request("POST /api/ticket", "Content-Length: 1000"), b"\x16\x03\x01\x02\x00\x01")
    async with target.line(first[number % len(first)]) as (reader, writer):
        if number % 3 == 0:
            reading = asyncio.ensure_future(_swallow(reader))
            while not reading.done():
                writer.write(b"G")
                await asyncio.sleep(1)
        await reader.read()


async def half_tls(target: Target, number: int) -> None:
    """Begin TLS and send no more than a part of the hello; every third one says nothing at all."""
    out = ssl.MemoryBIO()
    hello = CONTEXT.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    sent = (out.read(), out.read()[:100], b"", NOISE.randbytes(500))[number % 4]
    async with target.line(sent) as (reader, _):
        if number % 4 == 0:
            return
        await reader.read()


async def churn(target: Target, number: int) -> None:
    """Call and hang up, with a handshake or without, as a caller or as a stranger."""
    if number % 4 == 0:
        async with target.line(target.upgrade("GET /api/chat").replace(target.token.encode(), b"?" * 20)) as (
            reader,
            _,
        ):
            await target.answer(reader)
        return
    async with target.call("?format=pcm") as (_, writer):
        writer.write(_message(wire.audio(bytes(3840))))
        if number % 4 == 1:
            writer.write(_message(b"\x03\xe8", Opcode.CLOSE))
            await writer.drain()
        elif number % 4 == 2:
            await asyncio.sleep(0.1 * NOISE.random())


async def garbage(target: Target, number: int) -> None:
    """Send headers and addresses of a megabyte, noise, numbers that are none, and wrong tokens."""
    bearer = f"Authorization: Bearer {NOISE.random():.17f}{number}"
    sent = (
        target.request("GET /", "X: " + "x" * 1_000_000),
        target.request("GET /" + "x" * 1_000_000),
        NOISE.randbytes(10_000),
        target.request("POST /api/ticket", bearer, "Content-Length: 0"),
        target.request("GET /", *(f"X-{index}: 1" for index in range(5000))),
        target.upgrade("GET /api/chat?seed=1e999999999&temperature=" + "9" * 5000),
        target.upgrade("GET /nowhere"),
        target.request("GET /%2e%2e/%2e%2e/etc/passwd"),
        target.request("PUT /metrics", "Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n" + bytes(1000),
    )
    async with target.line(sent[number % len(sent)]) as (reader, _):
        await target.answer(reader)


QUESTIONS = ("GET /metrics", "GET /api/info", "GET /", "GET /readyz", "POST /api/ticket", "GET /main.js")


async def questions(target: Target, number: int) -> None:
    """Ask on one connection, without waiting for answers, which are read by nobody who would mind."""
    line = QUESTIONS[number % len(QUESTIONS)]
    asked = target.request(line, f"Authorization: Bearer {target.token}", "Content-Length: 0")
    async with target.line(asked) as (reader, writer):
        await target.answer(reader)
        reading = asyncio.ensure_future(_swallow(reader))
        try:
            await _send(writer, asked * ROUNDS)
        finally:
            reading.cancel()


Attack = Callable[[Target, int], Awaitable[None]]
ATTACKS: Mapping[str, tuple[Attack, int]] = {
    "upgrades": (upgrades, 150),
    "floods": (floods, 12),
    "damaged": (damaged, 6),
    "silent": (silent, 2000),
    "half-tls": (half_tls, 1000),
    "churn": (churn, 8),
    "garbage": (garbage, 9),
    "questions": (questions, 24),
}
"""Each attack, and its lines at a time."""
CALM = 0.05
"""Seconds between the end of a line and the next call, for those of which there are hundreds."""


async def attack(names: list[str], port: int, token: str, seconds: float) -> Counter[str]:
    """Attack so long; return what the attackers were told."""
    target = Target(port, token, Counter())
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # lines that are reset while they wait to send
    lines = [
        asyncio.ensure_future(_again(name, target, number)) for name in names for number in range(ATTACKS[name][1])
    ]
    await asyncio.sleep(seconds)
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)
    return target.told


async def _again(name: str, target: Target, number: int) -> None:
    one, lines = ATTACKS[name]
    while True:
        began = time.monotonic()
        await one(target, number)
        target.told["lines"] += 1
        if lines > 20:
            await asyncio.sleep(max(0.0, CALM - (time.monotonic() - began)))
        else:
            await asyncio.sleep(0)


def main() -> None:
    """Attack as the environment says, and print what was told."""
    told = asyncio.run(attack(**json.loads(os.environ["ATTACK"])))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
