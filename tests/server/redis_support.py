"""A real redis-server on a port of its own, and a line to it that is slow or cut."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time

import attrs
import pytest

from server_support import PATIENCE

REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
FULL = ("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


@attrs.define
class RedisServer:
    folder: object
    options: tuple = ()
    port: int = attrs.field(factory=free_port)
    process: object = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([REDIS, *fixed, *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
                line.sendall(b"PING\r\n")
                if line.recv(8):
                    return
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def redis_server(folder, *options):
    server = RedisServer(folder, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def slow_line(port, delay):
    """Pass on what goes to a port, and each piece of what comes back only after ``delay`` seconds."""
    lines = []

    async def carry(reader, writer, seconds):
        try:
            while piece := await reader.read(65536):
                await asyncio.sleep(seconds)
                writer.write(piece)
                await writer.drain()
        except OSError:
            return  # one of the two has gone
        finally:
            writer.close()

    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        lines.append(asyncio.current_task())
        await asyncio.gather(carry(reader, back, 0), carry(there, writer, delay))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
