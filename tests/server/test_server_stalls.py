"""A server whose model stops answering: it says so, its calls end, and it can still be stopped."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from websockets.sync.client import connect

from duplex.engine import watchdog
from duplex.engine.watchdog import StepDeadline
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import FRAME, PATIENCE, get, running, tone, until


def state(server):
    status, _, body = get(server, "/readyz")
    return status, json.loads(body)["state"]


def test_a_model_that_hangs_is_told_and_may_come_back(monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(StepDeadline, "FLOOR", 1.0)
    hold = threading.Event()
    with fake_model(on_step=lambda step: step == 3 and hold.wait(60)) as model, running(model) as server:
        with server.call("?format=pcm") as caller:
            caller.say(tone(0.4), audio_format="pcm")
            assert caller.end() == (1011, "the model does not answer; call again in some minutes")
        assert state(server) == (503, "stalled")
        assert get(server, "/healthz")[0] == 200
        assert 'duplex_calls_ended_total{reason="stalled"} 1.0' in get(server, "/metrics")[2]
        hold.set()
        until(lambda: state(server) == (200, "ready"))
        with server.call("?format=pcm") as caller:
            caller.say(tone(0.4), audio_format="pcm")
            caller.until(wire.Kind.AUDIO)


@pytest.mark.slow
def test_a_second_signal_ends_a_process_whose_model_hangs():
    program = textwrap.dedent("""
        import threading, anyio
        from duplex.server import Listening, serve
        from duplex.testing import fake_model
        with fake_model(on_step=lambda step: step == 3 and threading.Event().wait()) as model:
            anyio.run(lambda: serve(model, None, Listening(port=0), started=lambda port: print(port, flush=True)))
    """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            port = int(process.stdout.readline())
            with connect(f"ws://127.0.0.1:{port}/api/chat?format=pcm", compression=None) as websocket:
                for _ in range(6):
                    websocket.send(wire.audio(np.zeros(FRAME, "<i2").tobytes()))
                while wire.parse(websocket.recv(timeout=PATIENCE)).kind is not wire.Kind.AUDIO:
                    pass
                process.send_signal(signal.SIGTERM)
                assert wire.parse(websocket.recv(timeout=PATIENCE))
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        finally:
            process.kill()


def test_the_page_of_a_stalled_server_is_still_there():
    """Nothing but the model hangs: what needs none is answered."""
    hold = threading.Event()
    with (
        fake_model(on_step=lambda step: step == 0 and hold.wait(60)) as model,
        running(model) as server,
        server.call("?format=pcm") as caller,
    ):
        caller.say(tone(0.2), audio_format="pcm")
        assert get(server, "/")[0] == 200
        assert get(server, "/api/info")[0] == 200
        hold.set()
        caller.until(wire.Kind.AUDIO)
