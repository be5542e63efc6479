"""Recorded dialogues: what is written, what it is called, and what happens when things go otherwise."""

import json
from pathlib import PurePath

import numpy as np
import pytest
from process_support import anyio_backend, model, touch  # noqa: F401

import duplex
from cli_support import FRAME, RATE, SMALL, files_below, noise, read_wav, tokens_of, write_wav
from duplex.errors import UsageError
from duplex.process import find_recordings, process
from duplex.results.files import RESULT_FILES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def one_at_a_time():
    with duplex.load(SMALL, deterministic=True) as loaded:
        yield loaded


def names_of(inputs, out=None):
    return {recording.path: str(recording.name) for recording in find_recordings(inputs, out)}


def test_names_in_a_folder(tmp_path):
    touch(tmp_path, "a.wav", "B.FLAC", "deep/er/a.mp3", "notes.txt", ".hidden.wav", ".trash/c.wav", "talk.1.ogg")
    found = find_recordings([tmp_path])
    assert [str(recording.name) for recording in found] == ["B", "a", "deep/er/a", "talk.1"]
    assert [recording.path for recording in found][2] == tmp_path / "deep/er/a.mp3"


def test_names_keep_the_suffix_where_they_clash(tmp_path):
    touch(tmp_path, "a.wav", "a.flac", "b.wav", "c/x.wav", "c/X.mp3")
    assert sorted(names_of([tmp_path]).values()) == ["a.flac", "a.wav", "b", "c/X.mp3", "c/x.wav"]


def test_inputs_of_the_same_name(tmp_path):
    touch(tmp_path, "one/x.wav", "two/x.wav", "two/x.mp3", "one/y.wav")
    given = [tmp_path / name for name in ("one/x.wav", "two/x.wav", "one/y.wav")]
    assert list(names_of(given).values()) == ["one/x", "two/x", "y"]
    assert list(names_of([*given, tmp_path / "two/x.mp3"]).values()) == ["one/x", "two/x", "y", "x.mp3"]
    # A name from below the common folder may be one that another input has.
    touch(tmp_path, "in/one/x.wav")
    mixed = names_of([*given, tmp_path / "in"])
    assert len({name.casefold() for name in mixed.values()}) == 4


def test_the_same_input_twice_is_one(tmp_path):
    touch(tmp_path, "a.wav", "sub/b.wav")
    assert list(names_of([tmp_path, tmp_path / "a.wav", tmp_path / "sub" / ".." / "a.wav"]).values()) == ["a", "sub/b"]


def test_patterns(tmp_path, monkeypatch):
    touch(tmp_path, "calls/a.wav", "calls/b.flac", "calls/sub/c.wav", "calls/readme.md", "odd[1].wav")
    assert list(names_of([tmp_path / "calls" / "*.wav"]).values()) == ["a"]
    assert list(names_of([str(tmp_path / "calls" / "**" / "*.wav")]).values()) == ["a", "sub/c"]
    assert list(names_of([tmp_path / "odd[1].wav"]).values()) == ["odd[1]"]  # a file comes before a pattern
    monkeypatch.chdir(tmp_path)
    assert list(names_of(["ca*/*"]).values()) == ["calls/a", "calls/b"]


def test_results_are_not_taken_for_recordings(tmp_path):
    touch(tmp_path, "a.wav", "out/a/agent.wav", "results/a/agent.wav", "results/a/run.json", "calls/agent.wav")
    assert list(names_of([tmp_path], tmp_path / "out").values()) == ["a", "calls/agent"]
    assert list(names_of([tmp_path / "**" / "*.wav"], tmp_path / "out").values()) == ["a", "calls/agent"]


@pytest.mark.parametrize("name", ["..wav", "...wav", ".wav", "agent.wav.mp3", "no suffix"])
def test_odd_names_stay_below_the_output_folder(tmp_path, name):
    touch(tmp_path, name)
    (recording,) = find_recordings([tmp_path / name])
    assert recording.name == PurePath(name)


def test_what_is_not_there_is_kept(tmp_path):
    (tmp_path / "empty").mkdir()
    assert [recording.path.name for recording in find_recordings([tmp_path / "x.wav", tmp_path / "empty"])] == [
        "x.wav",
        "empty",
    ]
    with pytest.raises(UsageError, match="nothing to process"):
        find_recordings([])


async def test_what_is_written(model, tmp_path):
    pcm = noise(1.3)
    path = write_wav(tmp_path / "in" / "question.wav", pcm)
    (result,) = await process(model, [path], tmp_path / "out")
    folder = tmp_path / "out" / "question"
    assert (result.status, result.error, result.folder) == ("done", None, folder)
    assert files_below(folder) == sorted(RESULT_FILES)
    frames = -(-len(pcm) // FRAME)
    agent, dialogue = read_wav(folder / "agent.wav"), read_wav(folder / "dialogue.wav")
    assert agent.shape == (frames * FRAME, 1)
    assert dialogue.shape == (frames * FRAME, 2)
    assert np.array_equal(dialogue[:, 1], agent[:, 0])
    assert np.abs(dialogue[: len(pcm), 0] - np.rint(pcm[:, 0] * 32767)).max() <= 1
    assert not dialogue[len(pcm) :, 0].any()
    tokens = tokens_of(folder)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tokens.items()} == {
        "text": (np.int64, (frames,)),
        "agent": (np.int64, (4, frames)),
        "user": (np.int64, (4, frames)),
    }
    assert result.seconds == pytest.approx(frames * 0.08)

    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert all(next(iter(event)) == "type" for event in events)
    assert events[0]["type"] == "SessionStarted"
    assert events[-1]["type"] == "SessionEnded"
    assert "AgentAudio" not in {event["type"] for event in events}
    sequence = [event["sequence"] for event in events]
    assert sequence == sorted(set(sequence))

    transcript = json.loads((folder / "transcript.json").read_text())
    spoken = "".join(event["text"] for event in events if event["type"] == "AgentText")
    assert transcript["text"] == " ".join(spoken.split()) == result.text
    assert all(
        0 <= start <= end <= frames * 0.08 + 1e-6 for start, end in (c["timestamp"] for c in transcript["chunks"])
    )

    run = json.loads((folder / "run.json").read_text())
    assert run["input"] == str(path)
    assert len(run["sha256"]) == 64
    assert (run["model"], run["revision"], run["seed"]) == (SMALL, None, 0)
    assert run["options"] == {
        "temperature": 0.8,
        "text_temperature": 0.7,
        "top_k": 250,
        "text_top_k": 25,
        "greedy": False,
        "user_channel": "mix",
        "tail": 0.0,
    }
    assert set(run["versions"]) == {"duplex", "torch", "numpy", "python"}
    assert run["real_time_factor"] == pytest.approx(result.real_time_factor, abs=1e-3)
    assert run["files"] == sorted(set(RESULT_FILES) - {"run.json"})


async def test_sixteen_side_by_side_are_what_each_is_alone(one_at_a_time, tmp_path):
    for index in range(18):
        write_wav(tmp_path / "in" / f"{index:02}.wav", noise(0.3 + 0.1 * (7 * index % 18), seed=index))
    options = duplex.SessionOptions(seed=5)
    with duplex.load(SMALL, sessions=16, deterministic=True) as sixteen:
        together = await process(sixteen, [tmp_path / "in"], tmp_path / "a", options=options)
    alone = await process(one_at_a_time, [tmp_path / "in"], tmp_path / "b", options=options)
    assert [result.status for result in together + alone] == ["done"] * 36
    for one, other in zip(together, alone, strict=True):
        assert one.text == other.text
        for name in ("agent.wav", "dialogue.wav", "tokens.safetensors", "transcript.json"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


@pytest.mark.parametrize("tail", [0.0, 0.5, 2.04])
async def test_tail(model, tmp_path, tail):
    path = write_wav(tmp_path / "a.wav", noise(0.5))
    (result,) = await process(model, [path], tmp_path / "out", tail=tail)
    frames = -(-round((0.5 + tail) * RATE) // FRAME)
    assert tokens_of(result.folder)["text"].shape == (frames,)
    dialogue = read_wav(result.folder / "dialogue.wav")
    assert len(dialogue) == frames * FRAME
    assert dialogue[: RATE // 2, 0].any()
    assert not dialogue[RATE // 2 :, 0].any()


async def test_user_channel(model, tmp_path):
    pcm = noise(0.4, channels=2)
    path = write_wav(tmp_path / "a.wav", pcm)
    for channel, wanted in (("left", pcm[:, 0]), ("right", pcm[:, 1]), ("mix", pcm.mean(1))):
        (result,) = await process(model, [path], tmp_path / channel, user_channel=channel)
        user = read_wav(result.folder / "dialogue.wav")[: len(pcm), 0]
        assert np.abs(user - wanted * 32767).max() <= 2


@pytest.mark.parametrize("tail", [-1.0, float("nan"), float("inf")])
async def test_wrong_arguments(model, tmp_path, tail):
    with pytest.raises(UsageError, match="tail"):
        await process(model, [tmp_path], tmp_path / "out", tail=tail)
