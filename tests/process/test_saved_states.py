"""Conversations that go on from one recording to the next."""

import json

import numpy as np
import pytest
from process_support import anyio_backend  # noqa: F401

import duplex
from cli_support import DELAY2, FRAME, RATE, SMALL, noise, read_wav, run, tokens_of, write_wav
from duplex.errors import StateError, UsageError
from duplex.process import process, read_state

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[SMALL, DELAY2], ids=["small", "delay2"])
def model(request):
    with duplex.load(request.param, sessions=2, deterministic=True) as loaded:
        yield loaded


async def processed(model, path, out, **options):
    (result,) = await process(model, [path], out, **options)
    return result


@pytest.mark.parametrize("frames", [1, 7])
async def test_two_halves_are_as_the_whole(model, tmp_path, frames):
    pcm = noise(12 * FRAME / RATE)
    paths = [
        write_wav(tmp_path / f"{name}.wav", pcm[stretch])
        for name, stretch in (("whole", slice(None)), ("a", slice(frames * FRAME)), ("b", slice(frames * FRAME, None)))
    ]
    options = duplex.SessionOptions(seed=4, temperature=0.5)
    whole, first = [
        await processed(model, each, tmp_path / "out", options=options, save_state=True) for each in paths[:2]
    ]
    state = read_state(first.folder / "state.safetensors")
    assert state.options.temperature == 0.5
    second = await processed(model, paths[2], tmp_path / "out", state=state)
    assert second.seconds == pytest.approx((12 - frames) * FRAME / RATE)
    for name, found in tokens_of(second.folder).items():
        assert (found == tokens_of(whole.folder)[name][..., frames:]).all()
    agent, of_whole = (read_wav(each.folder / "agent.wav").ravel() for each in (second, whole))
    assert np.abs(agent - of_whole[frames * FRAME :]).max() <= 1
    events = [json.loads(line) for line in (second.folder / "events.jsonl").read_text().splitlines()]
    assert events[0]["at"] == pytest.approx(-model.spec.seconds(model.spec.latency_frames))  # what was on its way
    assert events[-1]["at"] == pytest.approx(second.seconds)
    record = json.loads((second.folder / "run.json").read_text())
    assert record["options"]["temperature"] == 0.5
    assert record["seed"] == 4


async def test_a_frame_that_is_not_whole_is_filled_up_before_the_state(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(2.5 * FRAME / RATE))
    saved = await processed(model, path, tmp_path / "out", save_state=True, tail=0.5 * FRAME / RATE)
    alone = await processed(model, path, tmp_path / "alone", tail=0.5 * FRAME / RATE)
    assert all((tokens_of(alone.folder)[name] == found).all() for name, found in tokens_of(saved.folder).items())
    async with duplex.Conversation(model, state=(saved.folder / "state.safetensors").read_bytes()) as conversation:
        assert conversation.resume_at == pytest.approx(3 * FRAME / RATE)


async def test_a_state_is_part_of_what_is_finished(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.4))
    assert (await processed(model, path, tmp_path / "out")).status == "done"
    saved = await processed(model, path, tmp_path / "out", save_state=True)
    assert saved.status == "done"
    assert (await processed(model, path, tmp_path / "out", save_state=True)).status == "skipped"
    assert (await processed(model, path, tmp_path / "out")).status == "skipped"
    state = read_state(saved.folder / "state.safetensors")
    assert (await processed(model, path, tmp_path / "out", state=state)).status == "done"
    assert (await processed(model, path, tmp_path / "out", state=state)).status == "skipped"
    assert (await processed(model, path, tmp_path / "out")).status == "done"


async def test_states_that_do_not_fit_are_told(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.4))
    saved = await processed(model, path, tmp_path / "out", save_state=True)
    file = saved.folder / "state.safetensors"
    state = read_state(file)
    with pytest.raises(UsageError, match="options"):
        await processed(model, path, tmp_path / "out", state=state, options=duplex.SessionOptions())
    with pytest.raises(UsageError, match="before"):
        await processed(model, path, tmp_path / "out", state=state, agent_channel="left", begin_at=0.1)
    with pytest.raises(UsageError):
        read_state(tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(file.read_bytes()[:100])
    with pytest.raises(StateError, match="bad"):
        read_state(tmp_path / "bad.safetensors")
    with duplex.load("tiny") as other:
        assert isinstance((await processed(other, path, tmp_path / "other", state=state)).error, StateError)
    assert not (tmp_path / "other" / "a").exists()


def test_the_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "a.wav", noise(0.4))
    first = run("process", "a.wav", "--model", SMALL, "--save-state", "--seed", "5")
    assert first.status == 0, first.err
    state = "out/a/state.safetensors"
    again = run("process", "a.wav", "--model", SMALL, "--out", "next", "--state", state)
    assert again.status == 0, again.err
    assert json.loads((tmp_path / "next" / "a" / "run.json").read_text())["seed"] == 5
    refused = run("process", "a.wav", "--model", SMALL, "--out", "next", "--state", state, "--seed", "6")
    assert refused.status == 2
    assert "own options" in refused.only_error()
    missing = run("process", "a.wav", "--model", SMALL, "--state", "none")
    assert missing.status == 2
    assert "--save-state" in missing.only_error()
