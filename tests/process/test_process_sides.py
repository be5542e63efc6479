"""Both sides of a recorded dialogue, each once as the user."""

import json
from pathlib import PurePath

import numpy as np
import pytest
from process_support import anyio_backend, model  # noqa: F401

from cli_support import noise, read_wav, tokens_of, write_wav
from duplex.errors import AudioFileError, UsageError
from duplex.process import process

pytestmark = pytest.mark.anyio


async def test_each_side_is_the_user_once(model, tmp_path):
    pcm = noise(0.4, channels=2)
    path = write_wav(tmp_path / "in" / "call.wav", pcm)
    results = await process(model, [path], tmp_path / "out", both=True)
    assert [result.recording.name for result in results] == [PurePath("call/user-left"), PurePath("call/user-right")]
    for channel, (result, side) in enumerate(zip(results, ("left", "right"), strict=True)):
        user = read_wav(result.folder / "dialogue.wav")[: len(pcm), 0]
        assert np.abs(user - pcm[:, channel] * 32767).max() <= 2
        assert json.loads((result.folder / "run.json").read_text())["options"]["user_channel"] == side
        (alone,) = await process(model, [path], tmp_path / side, user_channel=side)
        assert all(np.array_equal(tokens_of(alone.folder)[name], of) for name, of in tokens_of(result.folder).items())


async def test_each_side_is_skipped_on_its_own(model, tmp_path):
    path = write_wav(tmp_path / "in" / "call.wav", noise(0.3, channels=2))
    seen = []
    first = await process(model, [path], tmp_path / "out", both=True, progress=seen.append)
    assert [result.status for result in first] == ["done", "done"]
    assert seen[-1].done == pytest.approx(sum(result.seconds for result in first))
    (first[1].folder / "run.json").unlink()
    again = await process(model, [path], tmp_path / "out", both=True)
    assert [result.status for result in again] == ["skipped", "done"]


@pytest.mark.parametrize("channels", [1, 3])
async def test_a_recording_without_two_sides_does_not_stop_the_others(model, tmp_path, channels):
    bad = write_wav(tmp_path / "in" / "bad.wav", noise(0.2, channels=channels))
    good = write_wav(tmp_path / "in" / "good.wav", noise(0.2, channels=2))
    results = await process(model, [bad, good], tmp_path / "out", both=True)
    assert [result.status for result in results] == ["failed", "failed", "done", "done"]
    assert isinstance(results[0].error, AudioFileError)
    assert "stereo" in str(results[0].error)


async def test_one_side_and_both_are_refused_together(model, tmp_path):
    path = write_wav(tmp_path / "call.wav", noise(0.2, channels=2))
    with pytest.raises(UsageError, match="both"):
        await process(model, [path], tmp_path / "out", both=True, user_channel="left")
    assert not (tmp_path / "out").exists()


async def test_a_pair_is_not_another_dialogue_of_its_name(model, tmp_path):
    write_wav(tmp_path / "in" / "x.wav", np.stack([noise(0.2), noise(0.2, seed=1)], axis=1))
    for seed, name in enumerate(("x-left", "x-right", "y_A", "y_B", "y-left", "y-right")):
        write_wav(tmp_path / "in" / f"{name}.wav", noise(0.2, seed=seed + 2))
    results = await process(model, [tmp_path / "in"], tmp_path / "out", both=True)
    assert [result.status for result in results] == ["done"] * 8
    names = ["x", "x-left", "y-left", "y_A"]
    assert sorted({result.recording.name.parent.name for result in results}) == sorted(names)
    for result in results:
        run = json.loads((result.folder / "run.json").read_text())
        assert run["input"] == result.recording.place
