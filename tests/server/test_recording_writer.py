"""The writing of a recording: what is in its files, and that no disk holds up or ends a call."""

import json
import os
import time
import wave

import anyio
import numpy as np
import pytest

from duplex.engine.workers import Workers
from duplex.events import AgentText, SessionStarted
from duplex.frame_model import Frame
from duplex.server.metrics import Metrics
from duplex.server.recording import RecordingWriter
from duplex.server.recordings import expired, recordings_in
from duplex.testing import FakeFrameModel


@pytest.fixture
def writers():
    with Workers("duplex-test", 1) as made:
        yield made


def test_a_recording_of_a_process_that_slept_for_an_hour(tmp_path, writers):
    """The hour is in the file, but neither in memory nor on the disk."""
    spec, tokens = FakeFrameModel().spec, np.zeros(2, np.int64)
    recording = RecordingWriter(tmp_path, spec, Metrics(), writers)
    for at in (0.0, 3600.0):
        pcm = np.full(spec.frame_size, 0.25, np.float32)
        recording.record(Frame(at=at, user_pcm=pcm, agent_pcm=None, text=0, agent=tokens, user=tokens))

    async def write():
        with anyio.move_on_after(0):
            await recording.run()

    anyio.run(write)
    path = recording.path / "dialogue.wav"
    with wave.open(str(path)) as file:
        assert file.getnframes() == 3600 * spec.sample_rate + spec.frame_size
    assert path.stat().st_blocks * 512 < 1_000_000


def frame_at(spec, at):
    pcm, tokens = np.full(spec.frame_size, 0.25, np.float32), np.zeros(2, np.int64)
    return Frame(at=at, user_pcm=pcm, agent_pcm=None, text=0, agent=tokens, user=tokens)


def test_a_recording_is_nobody_else_s(tmp_path, writers):
    spec = FakeFrameModel().spec
    recording = RecordingWriter(tmp_path, spec, Metrics(), writers)
    recording.record(frame_at(spec, 0.0))
    anyio.run(within, 0.0, recording.run)
    assert recording.path.stat().st_mode & 0o777 == 0o700


async def within(seconds, run):
    with anyio.move_on_after(seconds):
        await run()


@pytest.mark.parametrize("when", ["meanwhile", "at the end", "never"])
def test_a_disk_that_hangs_holds_up_no_call(tmp_path, monkeypatch, writers, when):
    """The folder's file system does not answer: a pipe that nobody reads stands in for the file."""
    spec, metrics = FakeFrameModel().spec, Metrics()
    monkeypatch.setattr("duplex.server.recording.LAST_SECONDS", 60 if when == "never" else 0.3)
    monkeypatch.setattr("duplex.server.recording.MAX_SECONDS", 0.3 if when == "meanwhile" else 60)
    recording = RecordingWriter(tmp_path, spec, metrics, writers)
    recording.path.mkdir()
    pipe = recording.path / "events.jsonl"
    if when != "never":
        os.mkfifo(pipe)
    recording.record_event(
        SessionStarted(sequence=0, at=0, session_id="", model="", seed=0, sample_rate=1, frame_duration=1)
    )
    anyio.run(within, 5 if when == "meanwhile" else 0.1, recording.run)
    assert metrics.registry.get_sample_value("duplex_recordings_lost_total") == (when != "never")
    recording.record(frame_at(spec, 0.0))
    assert len(recording._frames) == (when == "never")
    if when != "never":
        with pipe.open() as reader:  # the thread that was left behind goes on
            reader.read()


def test_a_note_that_cannot_be_written_ends_the_recording_alone(tmp_path, writers):
    spec, metrics = FakeFrameModel().spec, Metrics()
    recording = RecordingWriter(tmp_path, spec, metrics, writers)
    (recording.path / "call.json").mkdir(parents=True)  # what root cannot write either
    recording.record(frame_at(spec, 0.0))
    recording.describe({"session": "s"})
    anyio.run(within, 5, recording.run)
    assert metrics.registry.get_sample_value("duplex_recordings_lost_total") == 1
    recording.record(frame_at(spec, spec.seconds(1)))
    assert recording._frames == []


def test_a_call_that_stands_still_is_not_taken_for_one_that_crashed(tmp_path, writers, monkeypatch):
    monkeypatch.setattr("duplex.server.recording.SECONDS_BETWEEN", 0.05)
    spec, metrics = FakeFrameModel().spec, Metrics()
    recording = RecordingWriter(tmp_path, spec, metrics, writers)
    recording.describe({"session": "s"})
    recording.record(frame_at(spec, 0.0))

    async def stand_still():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recording.run)
            await anyio.sleep(0.3)
            for file in recording.path.iterdir():
                os.utime(file, (0, 0))
            await anyio.sleep(0.3)
            (seen,) = recordings_in(tmp_path)
            tasks.cancel_scope.cancel()
        return seen

    seen = anyio.run(stand_still)
    assert not seen.ended
    assert seen.being_written(time.time())
    assert list(expired([seen], time.time(), days=0, gigabytes=1e-9)) == []


def test_half_a_character_ends_no_recording(tmp_path, writers):
    """A tokenizer's or a caller's text may have a surrogate without its other half, which UTF-8 cannot say."""
    spec, metrics = FakeFrameModel().spec, Metrics()
    recording = RecordingWriter(tmp_path, spec, metrics, writers)
    recording.describe({"session": "s", "note": "\ud800"})
    recording.record_event(AgentText(sequence=0, at=0.0, text="so \ud800", token=7))
    recording.record(frame_at(spec, 0.0))
    anyio.run(within, 0.1, recording.run)
    assert metrics.registry.get_sample_value("duplex_recordings_lost_total") == 0
    assert json.loads((recording.path / "events.jsonl").read_text())["text"] == "so ?"
    assert json.loads((recording.path / "call.json").read_text())["note"] == "?"
    assert (recording.path / "dialogue.wav").exists()


def test_what_is_taken_out_is_written_though_the_call_ends(tmp_path, writers):
    spec = FakeFrameModel().spec
    recording = RecordingWriter(tmp_path, spec, Metrics(), writers)
    for index in range(5):
        recording.record(frame_at(spec, spec.seconds(index)))
        anyio.run(within, 0.0, recording.run)
    with wave.open(str(recording.path / "dialogue.wav")) as file:
        assert file.getnframes() == 5 * spec.frame_size
