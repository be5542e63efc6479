"""Synthetic speech is marked in the files that are written, where ordinary readers find it; none is disturbed."""

import wave
from pathlib import Path

import anyio
import av
import numpy as np
import pytest

import duplex
from cli_support import run
from duplex.audio.synthetic_mark import read_mark
from duplex.audio.wav import WavWriter
from duplex.engine.workers import Workers
from duplex.frame_model import Frame
from duplex.server.metrics import Metrics
from duplex.server.recording import RecordingWriter
from duplex.testing import FakeFrameModel

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"


def tags(path):
    with av.open(str(path)) as container:
        return container.metadata


def sound(path):
    with wave.open(str(path)) as file:
        return file.getnframes(), file.readframes(file.getnframes())


@pytest.mark.parametrize("synthetic", ["all", "right"])
@pytest.mark.parametrize("samples", [0, 1, 4801])
def test_a_marked_file_has_the_sound_of_one_that_is_not(tmp_path, synthetic, samples):
    pcm = np.linspace(-1, 1, 2 * samples, dtype=np.float32).reshape(-1, 2)
    for name, mark in (("marked.wav", synthetic), ("plain.wav", None)):
        with WavWriter(tmp_path / name, channels=2, sample_rate=24000, synthetic=mark) as writer:
            writer.write(pcm)
    marked = tmp_path / "marked.wav"
    assert sound(marked) == sound(tmp_path / "plain.wav")
    assert (read_mark(marked), read_mark(tmp_path / "plain.wav")) == (synthetic, None)
    assert int.from_bytes(marked.read_bytes()[4:8], "little") == marked.stat().st_size - 8
    assert (tmp_path / "plain.wav").stat().st_size == 44 + 4 * samples
    if samples:
        assert duplex.__version__ in tags(marked)["encoder"]
        assert "rainedAlgorithmicMedia" in tags(marked)["comment"]


@pytest.mark.parametrize("end", range(0, 200, 7))
def test_a_file_that_is_cut_off_bears_no_mark_and_no_error(tmp_path, end):
    with WavWriter(tmp_path / "a.wav", channels=1, sample_rate=8000, synthetic="all") as writer:
        writer.write(np.zeros(100, np.float32))
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:end])
    assert read_mark(tmp_path / "b.wav") is None


def test_what_process_writes_is_marked_and_what_decode_writes_is_not(tmp_path):
    """Decoded codes are what somebody has said, or not: the command does not know."""
    assert run("process", QUESTION, "--out", tmp_path / "out").status == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert read_mark(folder / "agent.wav") == "all"
    assert read_mark(folder / "dialogue.wav") == "right"
    run("encode", QUESTION, "--out", tmp_path / "codes.safetensors")
    run("decode", tmp_path / "codes.safetensors", "--out", tmp_path / "decoded.wav")
    assert read_mark(tmp_path / "decoded.wav") is None


@pytest.mark.parametrize("agent", [True, False])
def test_what_a_server_records_is_marked_from_the_first_second(tmp_path, agent):
    spec = FakeFrameModel(agent_streams=2 if agent else 0).spec
    pcm, tokens = np.full(spec.frame_size, 0.25, np.float32), np.zeros(2, np.int64)

    async def write(recording):
        with anyio.move_on_after(0):
            await recording.run()

    with Workers("duplex-test", 1) as writers:
        recording = RecordingWriter(tmp_path, spec, Metrics(), writers)
        for index in range(3):
            at = spec.seconds(index)
            recording.record(Frame(at=at, user_pcm=pcm, agent_pcm=pcm, text=0, agent=tokens, user=tokens))
            anyio.run(write, recording)
            path = recording.path / "dialogue.wav"
            assert read_mark(path) == ("right" if agent else None)
            frames, data = sound(path)
            assert frames == (index + 1) * spec.frame_size
            assert set(np.frombuffer(data, "<i2")) == {8192}
