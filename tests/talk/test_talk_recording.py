"""Recordings of a call at this machine: their folders, and what a disk refuses."""

import json
import threading

import anyio
import pytest

import duplex
from duplex.events import AgentText
from duplex.talk.recording import Recorder
from duplex.talk.remote_recording import RemoteWriter


def test_two_calls_that_begin_in_one_second_have_a_folder_each(tmp_path):
    both = threading.Barrier(2)

    def make(folder):
        both.wait(20)  # both have chosen their folder by now
        return RemoteWriter(folder)

    recorders = [Recorder(tmp_path, make, {}) for _ in range(2)]

    async def record():
        async with anyio.create_task_group() as tasks:
            for recorder in recorders:
                tasks.start_soon(recorder.start)
        for recorder in recorders:
            await recorder.stop()

    anyio.run(record)
    folders = {folder for recorder in recorders for folder in recorder.finished}
    assert len(folders) == 2
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {"agent.wav", "dialogue.wav", "events.jsonl", "run.json", "transcript.json"}


def test_a_disk_that_gives_nothing_back_is_told_as_one_that_takes_nothing(tmp_path):
    recorder = Recorder(tmp_path, RemoteWriter, {})

    async def record():
        folder = await recorder.start()
        (folder / "transcript.json" / "x").mkdir(parents=True)  # neither written over nor removed, by root either
        with pytest.raises(duplex.OutputError, match=r"transcript\.json"):
            await recorder.stop()
        return folder

    folder = anyio.run(record)
    assert [path.name for path in folder.iterdir()] == ["transcript.json"]


def test_half_a_character_loses_no_recording(tmp_path):
    """A server's JSON may have a surrogate without its other half, which UTF-8 cannot say."""
    recorder = Recorder(tmp_path, RemoteWriter, {})

    async def record():
        await recorder.start()
        recorder.event(AgentText(sequence=0, at=0.0, text=" so \ud800", token=7))
        return await recorder.stop()

    folder = anyio.run(record)
    assert json.loads((folder / "transcript.json").read_text())["text"] == "so ?"
    assert json.loads((folder / "events.jsonl").read_text())["text"] == " so ?"
