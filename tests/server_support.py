"""A server in a thread, and plain clients for it."""

import contextlib
import functools
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import attrs
import numpy as np
from anyio.from_thread import start_blocking_portal
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from duplex.audio.opus import OpusReader, OpusWriter
from duplex.server import Listening, serve
from duplex.transports import wire

RATE = 24000
FRAME = 1920
PATIENCE = 20.0
SMALL = str(Path(__file__).parent / "data" / "reference" / "small")


@attrs.frozen
class Server:
    port: int
    cancel: object

    def url(self, path="", scheme="http"):
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def call(self, query="", *, scheme="ws", **options):
        """Open a websocket as a caller does, over TLS without a look at the certificate."""
        if scheme == "wss":
            options["ssl"] = for_threads(insecure_context())
        return Caller(connect(self.url(f"/api/chat{query}", scheme), compression=None, **options).__enter__())


@contextlib.contextmanager
def running(model, settings=None, *, telemetry=None, transcriber=None, **listening):
    """Run a server until the block ends."""
    port = queue.Queue()
    where = Listening(**{"port": 0, **listening})
    run = functools.partial(
        serve, model, settings, where, telemetry=telemetry, transcriber=transcriber, started=port.put
    )
    with start_blocking_portal("asyncio") as portal:
        future = portal.start_task_soon(run)
        future.add_done_callback(lambda _: port.put(None))
        number = port.get(timeout=3 * PATIENCE)  # fronts are programs of their own, which have to start
        if number is None:
            future.result()
        try:
            yield Server(number, future.cancel)
        finally:
            future.cancel()


def tone(seconds, level=0.2):
    return (level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def ask(server, method, path, **headers):
    """Return status, headers and body of an answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    with contextlib.closing(connection):
        return answer.status, dict(answer.headers), answer.read().decode()


def get(server, path, **headers):
    return ask(server, "GET", path, **headers)


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


class Caller:
    """A plain client: what it has heard stays in ``messages``."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.messages = []
        self._writer, self._reader = OpusWriter(RATE), OpusReader(RATE)
        self._begun = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.websocket.close()

    def say(self, pcm, *, audio_format="opus", pace=0.0):
        """Send sound, frame by frame."""
        if audio_format == "opus" and not self._begun:
            self._begun = True
            self.websocket.send(wire.audio(self._writer.header()))
        for start in range(0, len(pcm), FRAME):
            piece = pcm[start : start + FRAME]
            data = self._writer.encode(piece) if audio_format == "opus" else (piece * 32768).astype("<i2").tobytes()
            self.websocket.send(wire.audio(data))
            time.sleep(pace)

    def finish(self):
        """Say that no more sound comes."""
        self.websocket.send(wire.metadata({"type": "Finish"}))

    def next(self):
        """Return the next message."""
        message = wire.parse(self.websocket.recv(timeout=PATIENCE))
        self.messages.append(message)
        return message

    def until(self, kind):
        """Return the next message of a kind."""
        while (message := self.next()).kind is not kind:
            pass
        return message

    def rest(self):
        """Return all messages until the end."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.next()
        return self.messages

    def payloads(self, kind):
        return [message.payload for message in self.messages if message.kind is kind]

    def sound(self, audio_format="opus"):
        """Return what was heard, float32."""
        data = b"".join(self.payloads(wire.Kind.AUDIO))
        if audio_format == "pcm":
            return np.frombuffer(data, "<i2") / np.float32(32768)
        return self._reader.feed(data)

    @property
    def code(self):
        return self.websocket.protocol.close_code

    def end(self):
        """Read to the end; return the close code and what was said about it."""
        self.rest()
        told = self.payloads(wire.Kind.ERROR)
        return self.code, told[-1].decode() if told else ""


class Process:
    """A server process on a free port."""

    def __init__(self, *arguments, before=None, **environment):
        command = [sys.executable, "-m", "duplex", "serve", "--port", "0", "--model", SMALL, *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", **environment},
            preexec_fn=before,  # noqa: PLW1509 -- no thread of this process holds a lock then
        )
        self.told = line = ""
        while not (address := re.search(r"https?://\S+:(\d+)", line)):
            line = self.process.stderr.readline()
            self.told += line
            if not line:
                self.__exit__()
                raise AssertionError(f"the server did not start: {self.told}")
        self.server = Server(int(address[1]), None)

    def __enter__(self):
        return self

    def __exit__(self, failed=None, *_):
        """Kill it; one that a test failed with tells first what each of its threads is doing."""
        self.process.send_signal(signal.SIGABRT if failed else signal.SIGKILL)
        said = self.process.communicate()[1]
        if failed:
            sys.stderr.write(self.told + said)

    def stop(self, *, signals=1):
        """Send SIGTERM so many times; return the exit status and what was said at the end."""
        for _ in range(signals):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(1)  # two that come while the process does not run are one
        said = self.process.communicate(timeout=20)[1]
        return self.process.returncode, said


def insecure_context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def for_threads(context):
    """Have connections of a context read in one thread while another writes, as those of ``websockets.sync`` do.

    OpenSSL's do not allow it. In TLS 1.3 the first thing that a client reads are tickets, and a request that it writes
    meanwhile may be lost: one connection in sixty answered nobody, none of 1500 in TLS 1.2, none of 1000 of a client
    without threads.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
