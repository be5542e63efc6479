"""Plain lines, with local models and with a real server, and what a server refuses."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import wave
from functools import partial

import anyio
import numpy as np
import pytest
from talk_support import RATE, Headset, call_on, stats, tone

import duplex
from cli_support import run
from duplex.server import Settings
from duplex.talk.call import Call
from duplex.talk.line import TalkLine
from duplex.talk.lines import show_lines
from duplex.talk.recording import Recorder
from duplex.talk.remote_recording import RemoteWriter
from duplex.testing import fake_model
from server_support import running

WANTED = "a-token-of-some-length"


def hold(call, *, record=True, hints=()):
    """Hold a call on plain lines; return the exit status and what was printed."""
    said, noted = [], []
    status = anyio.run(lambda: show_lines(call, hints=hints, record=record, say=said.append, note=noted.append))
    return status, said, noted


def channels(folder):
    with wave.open(str(folder / "dialogue.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


async def reach(call, at):
    """Wait until a call has come to a place on its time line."""
    reached = anyio.Event()
    call.changed = lambda _: reached.set() if call.state.at > at else None
    with anyio.fail_after(20):
        await reached.wait()


def run_beside(call, other):
    """Hold a call, and run something that is given it beside it."""

    async def talk():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other, call)
            await call.run()

    anyio.run(talk)


def remote_call(server, folder, microphone, **options):
    line = TalkLine(lambda *_: microphone, None, None)
    recorder = Recorder(folder, RemoteWriter, {"server": server.url()})
    line.tap = recorder
    return Call(lambda call: duplex.connect(server.url(), call.line, queued=call.queued, **options), line, recorder)


def test_a_local_call_in_lines(tmp_path):
    with fake_model() as model:
        call = call_on(model, tmp_path, Headset(tone(3)))
        status, said, noted = hold(call, hints=["What is the capital of France?"])
    assert (status, call.error) == (0, None)
    assert any(" you " in line for line in said)
    assert any(" agent w" in line for line in said)
    assert noted[:2] == ["microphone: a headset, loudspeaker: a loudspeaker", "fake listens"]
    assert "What is the capital of France?" in noted
    (folder,) = call.recorder.finished
    assert len(channels(folder)) == round(call.state.at * RATE)
    run_json = json.loads((folder / "run.json").read_text())
    assert run_json["files"] == sorted(path.name for path in folder.iterdir() if path.name != "run.json")
    assert run_json["seed"] == 3


def test_a_call_of_a_server_in_lines(tmp_path):
    with fake_model() as model, running(model, Settings()) as server:
        call = remote_call(server, tmp_path, Headset(tone(3)))
        status, said, _ = hold(call)
    assert (status, call.error) == (0, None)
    assert any(" agent " in line for line in said)  # the seed is drawn, so a word may be of any piece
    (folder,) = call.recorder.finished
    assert {path.name for path in folder.iterdir()} == {
        *("agent.wav", "dialogue.wav", "events.jsonl", "run.json", "transcript.json")
    }
    both = channels(folder)
    assert len(both) >= 3 * RATE
    assert np.abs(both[: 3 * RATE, 0]).max() > 9000, "the user is not on the left"
    assert np.abs(both[:, 1]).max() > 0, "the agent is not on the right"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    words = "".join(event["text"] for event in events if event["type"] == "AgentText")
    transcript = json.loads((folder / "transcript.json").read_text())
    assert transcript["text"] == " ".join(words.split())
    assert all(start < end for start, end in (chunk["timestamp"] for chunk in transcript["chunks"]))
    assert events[-1]["type"] == "SessionEnded"


def test_a_recording_that_begins_later_has_a_time_line_of_its_own(tmp_path):
    microphone = Headset()

    async def record(call):
        await reach(call, 1.5)
        await call.toggle_recording()
        await reach(call, 2.5)
        call.quit()

    with fake_model() as model:
        call = call_on(model, tmp_path, microphone)
        run_beside(call, record)
    (folder,) = call.recorder.finished
    run_json = json.loads((folder / "run.json").read_text())
    assert run_json["starts_at"] > 1.5
    assert run_json["seconds"] > 0.5
    # A frame that comes as the call ends may be in one of them alone.
    assert run_json["starts_at"] + run_json["seconds"] == pytest.approx(call.state.at, abs=0.081)
    assert len(channels(folder)) == pytest.approx(run_json["seconds"] * RATE, abs=1)


def test_a_recording_whose_folder_is_made_as_the_call_ends_is_completed(tmp_path):
    ended = threading.Event()
    with fake_model() as model:
        call = call_on(model, tmp_path, Headset(tone(1)))
        make, end = call.recorder._make, call.state.end
        call.recorder._make = lambda folder: ended.wait(20) and make(folder)
        call.state.end = lambda: [end(), ended.set()]

        async def record(call):
            await reach(call, 0.1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call.toggle_recording)  # r
                tasks.start_soon(call.toggle_recording)  # r again, before anything has been seen of the first

        run_beside(call, record)
    (folder,) = call.recorder.finished
    assert call.error is None
    assert [path.name for path in (tmp_path / "calls").iterdir()] == [folder.name]
    assert json.loads((folder / "run.json").read_text())["seconds"] == 0


def test_no_recording_begins_when_the_call_has_ended(tmp_path):
    with fake_model() as model:
        call = call_on(model, tmp_path, Headset(tone(1)))
        hold(call, record=False)
        anyio.run(call.toggle_recording)
    assert call.recorder.folder is None
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_completes_the_recording(tmp_path, number):
    with fake_model() as model:
        call = call_on(model, tmp_path, Headset())
        threading.Timer(2.0, os.kill, (os.getpid(), number)).start()
        status, _, _ = hold(call)
    assert (status, call.error) == (128 + number, None)
    assert (call.recorder.finished[0] / "run.json").exists()


def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    (tmp_path / "calls").write_text("a file")
    with fake_model() as model:
        call = call_on(model, tmp_path, Headset(tone(1)))
        hold(call)
    assert isinstance(call.error, duplex.OutputError)


def test_devices_that_do_not_open_leave_the_ones_before(tmp_path):
    class Refused(Headset):
        async def start(self, _):
            raise duplex.AudioDeviceError("the system refuses the microphone")

    microphones = [Headset(), Refused(), Headset()]
    with fake_model() as model:
        call = call_on(model, tmp_path, None, make=lambda *_: microphones.pop(0))

        async def talk():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call.run)
                await reach(call, 0.5)
                await call.choose(7, None)
                await reach(call, call.state.at + 0.5)
                call.quit()

        anyio.run(talk)
    assert call.error is None
    assert list(call.notices) == ["the system refuses the microphone"]
    assert call.line.chosen == (None, None)


@pytest.mark.parametrize("token", [(), ("--token", "a-wrong-token-of-some-length")])
def test_a_server_that_wants_another_token(token):
    with fake_model() as model, running(model, Settings(tokens=(WANTED,))) as server:
        outcome = run("talk", "--server", server.url(), *token)
    assert outcome.status == 1
    assert "token" in outcome.only_error()


def test_a_server_that_is_full(monkeypatch):
    monkeypatch.setattr("duplex.transports.MicrophoneTransport", lambda *_, **__: Headset())
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(fake_model(capacity=1))
        server = stack.enter_context(running(model, Settings(queue=0)))
        caller = stack.enter_context(server.call())
        caller.next()
        outcome = run("talk", "--server", server.url())
    assert outcome.status == 1
    assert "taken" in outcome.err.splitlines()[-1]  # the devices may have been told before


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outcome = run("talk", "--server", f"http://127.0.0.1:{port}")
    assert outcome.status == 1
    assert "cannot be reached" in outcome.only_error()


@pytest.mark.slow
def test_whoever_waits_in_a_queue_is_told_the_place_and_may_leave(tmp_path):
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(fake_model(capacity=1))
        server = stack.enter_context(running(model, Settings(queue=1)))
        caller = stack.enter_context(server.call())
        caller.next()
        threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        call = remote_call(server, tmp_path, Headset())
        status, said, noted = hold(call, record=False)
    assert (status, call.error, said) == (130, None, [])
    assert any("number 1 in the queue" in line for line in noted)


def test_a_server_that_goes_away_during_the_call(tmp_path):
    with fake_model() as model, contextlib.ExitStack() as stack:
        server = stack.enter_context(running(model, Settings()))
        call = remote_call(server, tmp_path, Headset())
        threading.Timer(2.0, server.cancel).start()
        status, _, _ = hold(call)
    assert status == 0
    assert isinstance(call.error, duplex.ServerError)
    assert (call.recorder.finished[0] / "dialogue.wav").exists()


def test_a_server_is_called_without_torch():
    program = "import sys; sys.modules['torch'] = None; from duplex.cli import main; main(sys.argv[1:])"
    with fake_model() as model, running(model, Settings(tokens=(WANTED,))) as server:
        command = [sys.executable, "-c", program, "talk", "--server", server.url()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "token" in done.stderr


def test_options_of_a_local_model_do_not_go_with_a_server():
    outcome = run("talk", "--server", "http://127.0.0.1:9", "--model", "tiny")
    assert (outcome.status, "--model" in outcome.only_error()) == (2, True)
    assert run("talk", "--token", WANTED).status == 2


class Unplugged(Headset):
    """Devices that are gone for a while: nothing is played, as the microphone's transport does."""

    def __init__(self):
        super().__init__()
        self.plugged = anyio.Event()
        self.plug(there=True)

    async def send(self, pcm):
        await self.plugged.wait()
        await super().send(pcm)

    def plug(self, *, there):
        if there:
            self.plugged.set()
        else:
            self.plugged = anyio.Event()
        self.stats = stats(**({} if there else {"input_device": "", "output_device": ""}))


async def until(condition):
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 -- of what nobody tells
            await anyio.sleep(0.02)


def test_a_lag_is_told_once_while_there_is_no_device(tmp_path):
    noted = []

    def lags():
        return [text for text in noted if text.startswith("lag")]

    async def talk(model):
        microphone = Unplugged()
        call = call_on(model, tmp_path, microphone)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(show_lines, call, hints=(), record=False, say=print, note=noted.append))
            await until(lambda: call.state.at > 0.5)
            microphone.plug(there=False)
            await until(lambda: call.state.lost_seconds > 2)  # three Lag events or more
            assert len(lags()) == 1
            microphone.plug(there=True)
            await until(lambda: "microphone: a headset, loudspeaker: a loudspeaker" in noted)
            call.quit()

    with fake_model() as model:
        anyio.run(talk, model)
