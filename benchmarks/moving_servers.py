"""Two servers for moving_calls.py, as processes that hand calls on to each other, and lines to them that can be cut.

As a program it is one of them: with ``duplex.serve`` as it is, but that what the model hears is written beside each
recording (``heard.f32``), and that ``fake`` is the model without weights.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs
import numpy as np

import duplex
from duplex.engine.model import Model
from duplex.frame_model import Frame
from duplex.server import Listening, Settings, serve, service
from duplex.server.recording import RecordingWriter
from duplex.testing import fake_model

FAKE = "fake"
HEARD = "heard.f32"


class Server:
    """A server process on a port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.process.stdout is None or not self.process.stdout.readline():
            raise SystemExit("a server did not start")


class Line:
    """A proxy that can be cut, or swallow everything without a word."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.open, self.swallows, self.sockets = upstream, True, False, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self.open = False
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.sockets.clear()

    def swallow(self) -> None:
        """Let all that is sent vanish, on connections that stay open and on new ones."""
        self.swallows = True

    def mend(self) -> None:
        """Take connections again; those from before stay dead."""
        self.open, self.swallows = True, False

    def _accept(self) -> None:
        while True:
            accepted, _ = self.listening.accept()
            if not self.open:
                accepted.close()
                continue
            try:
                pair = accepted, socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                accepted.close()
                continue
            self.sockets += pair
            for source, target in (pair, pair[::-1]):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        dead = False
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                dead = dead or self.swallows
                if not dead:
                    target.sendall(data)
        if not (dead or self.swallows):
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)


@attrs.frozen
class Pair:
    """Two servers, each with room for the other's calls."""

    first: Server
    ports: tuple[int, int]
    recordings: Path


@contextlib.contextmanager
def servers(model: str, calls: int) -> Iterator[Pair]:
    """Run them."""
    ports = _free_ports()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        common = ["--model", model, "--sessions", str(2 * calls), "--folder", folder]
        pair: list[Server] = []
        for port, other in (ports, ports[::-1]):
            pair.append(Server(*common, "--port", str(port), "--other", str(other)))
            running.callback(_end, pair[-1].process)
        yield Pair(pair[0], ports, Path(folder) / "calls")


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def _free_ports() -> tuple[int, int]:
    """Return ports that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def loaded(model: str, sessions: int) -> Model:
    """Return a model whose tokens do not depend on who else is there: what it says can be computed again."""
    if model == FAKE:
        return fake_model(capacity=sessions)
    return duplex.load(model, sessions=sessions, deterministic=True)


class HearingWriter(RecordingWriter):
    """A recording, with what the model heard beside it: float32, and no gaps where the conversation stood still."""

    def _append(self, frames: list[Frame]) -> None:
        super()._append(frames)
        with (self.path / HEARD).open("ab") as file:
            file.write(np.concatenate([frame.user_pcm for frame in frames]).astype("<f4").tobytes())


def main() -> None:
    """Be a server."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("--model", "--folder"):
        parser.add_argument(name, required=True)
    for name in ("--sessions", "--port", "--other"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    service.RecordingWriter = HearingWriter
    folder = Path(given.folder)
    settings = Settings(
        state_store=folder / "states", move_to=(f"http://127.0.0.1:{given.other}",), record=folder / "calls"
    )

    async def run() -> None:
        with loaded(given.model, given.sessions) as model:
            await serve(model, settings, Listening(port=given.port), started=lambda _: print("listens", flush=True))

    anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})


if __name__ == "__main__":
    main()
