"""The model takes the place of a person in a recorded dialogue: until a time what was said is given to it."""

import json

import numpy as np
import pytest
from process_support import anyio_backend  # noqa: F401

import duplex
from cli_support import DELAY2, FRAME, RATE, SMALL, noise, read_wav, tokens_of, write_wav
from duplex.errors import AudioFileError, UsageError
from duplex.frame_model import UNGENERATED
from duplex.process import process

pytestmark = pytest.mark.anyio
BEGIN = 5
AT = BEGIN * FRAME / RATE


@pytest.fixture(scope="module", params=[SMALL, DELAY2], ids=["small", "delay2"])
def model(request):
    with duplex.load(request.param, sessions=2, deterministic=True) as loaded:
        yield loaded


@pytest.fixture
def call(tmp_path):
    """A dialogue of 12.5 frames."""
    pcm = noise(12.5 * FRAME / RATE, channels=2)
    return write_wav(tmp_path / "in" / "call.wav", pcm), pcm


async def taken_over(model, path, out, **options):
    options = {"agent_channel": "right", "begin_at": AT} | options
    (result,) = await process(model, [path], out, **options)
    return result


def events_of(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


async def test_results_are_in_step_with_the_recording(model, call, tmp_path):
    path, pcm = call
    result = await taken_over(model, path, tmp_path / "out")
    assert result.seconds == pytest.approx(13 * FRAME / RATE)
    heard = np.pad(pcm, ((0, FRAME // 2), (0, 0))) * 32767
    dialogue, agent = read_wav(result.folder / "dialogue.wav"), read_wav(result.folder / "agent.wav").ravel()
    assert len(dialogue) == len(agent) == 13 * FRAME
    assert np.abs(dialogue[:, 0] - heard[:, 0]).max() <= 2
    assert np.abs(agent[: BEGIN * FRAME] - heard[: BEGIN * FRAME, 1]).max() <= 2
    assert np.abs(agent[BEGIN * FRAME :] - heard[BEGIN * FRAME :, 1]).max() > 100
    assert (dialogue[:, 1] == agent).all()
    run = json.loads((result.folder / "run.json").read_text())
    assert (run["options"]["begin_at"], run["options"]["user_channel"]) == (AT, "left")
    ats = [event["at"] for event in events_of(result.folder)]
    assert ats[0] == pytest.approx(AT)
    assert ats[-1] == pytest.approx(13 * FRAME / RATE)


async def test_the_model_goes_on_after_what_was_said(model, call, tmp_path):
    path, pcm = call
    result = await taken_over(model, path, tmp_path / "out")
    found = tokens_of(result.folder)
    said = {name: model.codec.encode(pcm[: BEGIN * FRAME, channel]) for name, channel in (("user", 0), ("agent", 1))}
    history = np.concatenate(
        [
            np.full((1, BEGIN), UNGENERATED),
            said["agent"][: model.spec.agent_streams],
            said["user"][: model.spec.user_streams],
        ]
    )
    columns = np.concatenate([found["text"].reshape(1, -1), found["agent"], found["user"]])
    assert (columns[:, :BEGIN] == history).all()
    options = duplex.SessionOptions(seed=0)
    recorder = Kept()
    async with duplex.Conversation(model, history=history, recorder=recorder, options=options) as conversation:
        async for _ in conversation.run(pcm[BEGIN * FRAME :, 0]):
            pass
    assert (columns[:, BEGIN:] == np.stack(recorder.columns, axis=1)).all()


class Kept:
    def __init__(self):
        self.columns = []

    def record(self, frame):
        self.columns.append(np.concatenate([[frame.text], frame.agent, frame.user]))


async def test_the_words_of_the_person_are_part_of_it(model, call, tmp_path):
    path, _ = call
    free = await taken_over(model, path, tmp_path / "out")
    assert (tokens_of(free.folder)["text"][:BEGIN] == UNGENERATED).all()
    path.with_suffix(".json").write_text(json.dumps({"chunks": [{"text": "hello", "timestamp": [0.08, 0.3]}]}))
    known = await taken_over(model, path, tmp_path / "out")
    assert known.status == "done"  # other words are another beginning
    text = tokens_of(known.folder)["text"]
    assert (text[:BEGIN] >= 0).all()
    assert text[0] == model.spec.text_end_of_padding
    (word, *_) = json.loads((known.folder / "transcript.json").read_text())["chunks"]
    assert word["text"] == "hello"
    assert word["timestamp"][0] == 0.08
    assert (await taken_over(model, path, tmp_path / "out")).status == "skipped"
    path.with_suffix(".json").write_text(json.dumps({"chunks": [{"text": "hello"}]}))
    assert isinstance((await taken_over(model, path, tmp_path / "out")).error, UsageError)


async def test_files_of_a_pair_are_as_a_stereo_recording(model, call, tmp_path):
    path, pcm = call
    stereo = await taken_over(model, path, tmp_path / "stereo")
    for name, side in (("left", pcm[:, :1]), ("right", pcm[: 8 * FRAME, 1:])):
        write_wav(tmp_path / "pair" / f"talk-{name}.wav", side)
    paired = await taken_over(model, tmp_path / "pair", tmp_path / "out")
    assert paired.folder.name == "talk"
    assert all((tokens_of(stereo.folder)[name] == found).all() for name, found in tokens_of(paired.folder).items())
    assert (await taken_over(model, tmp_path / "pair", tmp_path / "out")).status == "skipped"
    write_wav(tmp_path / "pair" / "talk-right.wav", 0.5 * pcm[: 8 * FRAME, 1:])
    assert (await taken_over(model, tmp_path / "pair", tmp_path / "out")).status == "done"


async def test_a_person_who_is_silent_before_the_time_has_silence_there(model, call, tmp_path):
    _, pcm = call
    write_wav(tmp_path / "pair" / "talk_A.wav", pcm[:, :1])
    write_wav(tmp_path / "pair" / "talk_B.wav", pcm[: 2 * FRAME, 1:])
    result = await taken_over(model, tmp_path / "pair", tmp_path / "out")
    agent = read_wav(result.folder / "agent.wav").ravel()
    assert agent[: 2 * FRAME].any()
    assert not agent[2 * FRAME : BEGIN * FRAME].any()


async def test_beginning_at_once_is_hearing_the_other_channel(model, call, tmp_path):
    path, _ = call
    begun = await taken_over(model, path, tmp_path / "out", begin_at=0.0)
    (alone,) = await process(model, [path], tmp_path / "alone", user_channel="left")
    assert all((tokens_of(alone.folder)[name] == found).all() for name, found in tokens_of(begun.folder).items())


async def test_a_time_after_the_end_is_told(model, call, tmp_path):
    path, _ = call
    for late in (12.5 * FRAME / RATE + 0.05, 100.0):
        result = await taken_over(model, path, tmp_path / "out", begin_at=late)
        assert isinstance(result.error, AudioFileError)
        assert "sooner" in str(result.error)
    assert not (tmp_path / "out" / "call").exists()


async def test_more_than_the_model_remembers_is_cut_at_its_front(model, tmp_path):
    frames = model.spec.context + 20
    path = write_wav(tmp_path / "long.wav", noise((frames + 3) * FRAME / RATE, channels=2))
    result = await taken_over(model, path, tmp_path / "out", begin_at=frames * FRAME / RATE)
    assert result.status == "done"
    assert tokens_of(result.folder)["user"].shape[1] == frames + 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"begin_at": None},
        {"agent_channel": None},
        {"agent_channel": "middle"},
        {"both": True},
        {"user_channel": "left"},
        {"begin_at": -1.0},
        {"begin_at": float("nan")},
        {"agent_channel": None, "begin_at": None, "pair": ("*-x", "*-y")},
    ],
)
async def test_what_does_not_go_together_is_refused(model, call, tmp_path, wrong):
    with pytest.raises(UsageError):
        await taken_over(model, call[0], tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
