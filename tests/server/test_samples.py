"""What the pages on serving print, run as it is meant: the application by uvicorn, the commands by a shell."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import duplex
from server_support import Server, get, insecure_context, tone, until

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = [(HOW_TO / name).read_text() for name in ("serve.md", "behind-a-proxy.md")]
TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def printed(language):
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [found for page in PAGES for found in block.findall(page)]


async def call(url, **options):
    """Speak and hear the answer out; return why the conversation ended."""
    async with duplex.connect(url, duplex.MemoryTransport(tone(1.0)), **options) as conversation:
        events = [event async for event in conversation]
    assert any(isinstance(event, duplex.AgentAudio) for event in events)
    return events[-1].reason


@contextlib.contextmanager
def process(command, folder, told, **environment):
    """Run a program until the block ends; yields it and the match of what it tells when it has started."""
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | environment, start_new_session=True
    ) as started:
        try:
            said = ""
            while (match := re.search(told, said)) is None:
                line = started.stderr.readline()
                assert line, said
                said += line
            yield started, match
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


@pytest.mark.parametrize("block", range(len(printed("python"))))
def test_an_application_as_printed(tmp_path, block):
    (tmp_path / "my_module.py").write_text(printed("python")[block])
    command = [sys.executable, "-m", "uvicorn", "my_module:app", "--port", "0"]
    with process(command, tmp_path, r"Uvicorn running on http://127\.0\.0\.1:(\d+)") as (started, match):
        server = Server(int(match[1]), None)
        assert "<html" in get(server, "/talk/")[2]
        assert get(server, "/talk/readyz")[0] == 200
        for _ in range(2):
            assert anyio.run(call, server.url("/talk/")) is duplex.EndReason.FINISHED
        with server_call(server) as websocket:
            websocket.recv(timeout=20)
            started.send_signal(signal.SIGTERM)
            said = started.communicate(timeout=60)[1]
    # uvicorn stops, runs its own handlers, and then lets the signal do what it does.
    assert started.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in said
    assert "Application shutdown complete" in said


def server_call(server):
    from websockets.sync.client import connect  # noqa: PLC0415 -- only here

    return connect(server.url("/talk/api/chat?format=pcm", "ws"), compression=None)


def commands():
    """Return the blocks that serve, without what installs."""
    blocks = [
        "".join(line for line in block.splitlines(keepends=True) if not line.startswith("pip "))
        for block in printed("shell")
    ]
    return [block for block in blocks if "duplex serve" in block]


@pytest.mark.parametrize("block", range(len(commands())))
def test_a_server_as_printed(tmp_path, block):
    """The port is the only thing that is chosen otherwise."""
    script = commands()[block]
    (tmp_path / "tokens.txt").write_text(TOKEN)
    environment = {"DUPLEX_PORT": "0", "HOME": str(tmp_path)}
    with process(["sh", "-ec", script], tmp_path, r"listens at (https?)://\S+:(\d+)", **environment) as (
        started,
        match,
    ):
        scheme, port = match.groups()
        token = (tmp_path / "tokens.txt").read_text().strip() if "tokens.txt" in script else None
        context = insecure_context() if scheme == "https" else None
        options = {"token": token, "ssl_context": context}
        assert anyio.run(lambda: call(f"{scheme}://127.0.0.1:{port}", **options)) is duplex.EndReason.FINISHED
        if token:
            with pytest.raises(duplex.ServerError, match="show a token"):
                anyio.run(lambda: call(f"{scheme}://127.0.0.1:{port}", ssl_context=context))
        os.killpg(started.pid, signal.SIGTERM)
        said = started.communicate(timeout=60)[1]
        until(lambda: started.poll() is not None)
    assert "Traceback" not in said
