"""Scores agree with the original's logits, with the training loss, and with what a model chooses."""

import json
import os
import wave
from contextlib import aclosing

import anyio
import numpy as np
import pytest
import torch

import duplex
from duplex.backends.torch.loading import read_language_model
from duplex.checkpoints import checkpoint
from duplex.errors import ClosedError, OutputError, UsageError
from duplex.frame_model import UNGENERATED
from duplex.scoring import ScoreSettings, find_scored, score, score_files
from duplex.scoring.recorded import read_recorded
from duplex.testing import fake_model
from duplex.training.language_model import LanguageModelSettings
from duplex.training.language_model.training_module import LanguageModelTrainingModule

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["torch", "mlx"])
def model(request, checkpoint_reference):
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    with duplex.load(str(checkpoint_reference.folder), backend=request.param, sessions=3) as model:
        yield model


@pytest.fixture(scope="module")
def tokens(model, checkpoint_reference):
    """The dialogue that the original held."""
    expected, spec = checkpoint_reference.expected, model.spec
    frames = expected["lm_text"].shape[-1]
    user = expected["mimi_codes"][: spec.user_streams, :frames]
    return np.concatenate([expected["lm_text"].reshape(1, -1), expected["lm_audio"], user])


async def scored(model, tokens):
    frames = [frame async for frame in score(model, tokens)]
    return np.stack([frame.log_probabilities for frame in frames], axis=1), frames


async def test_the_text_is_as_likely_as_the_original_finds_it(model, tokens, checkpoint_reference):
    found, frames = await scored(model, tokens)
    logits = torch.from_numpy(checkpoint_reference.expected["lm_text_logits"]).double().log_softmax(-1).numpy()
    np.testing.assert_allclose(found[0], logits[np.arange(len(frames)), tokens[0]], atol=1e-4)
    assert all((frame.ranks <= 0).all() for frame in frames)  # the original chose greedily
    assert [frame.at for frame in frames] == [model.spec.seconds(index) for index in range(len(frames))]
    for stream, delay in enumerate(model.spec.delays[: len(found)]):
        assert np.isnan(found[stream]).sum() == delay


async def test_free_text_is_what_the_model_chooses(model, tokens):
    free = tokens.copy()
    free[0] = UNGENERATED
    found, frames = await scored(model, free)
    assert [frame.tokens[0] for frame in frames] == tokens[0].tolist()
    assert np.isnan(found[0]).all()
    known, _ = await scored(model, tokens)
    np.testing.assert_allclose(found[1:], known[1:], atol=1e-3)


async def test_the_sum_agrees_with_the_training_loss(checkpoint_reference, model, tokens):
    if model.backend != "torch":
        pytest.skip("training is the torch backend's")
    spec, found = model.spec, checkpoint.resolve(str(checkpoint_reference.folder))
    weights = {"dtype": torch.float32, "device": torch.device("cpu")}
    language_model = read_language_model(found.language_model, found.weights, **weights)
    settings = LanguageModelSettings(padding_weight=1.0, semantic_weight=1.0, unaided_share=0.0)
    module = LanguageModelTrainingModule(language_model, settings).eval()
    whole = np.concatenate([tokens, np.full((1, tokens.shape[1]), spec.text_padding)])
    with torch.no_grad():
        losses = module(torch.from_numpy(whole)[None])
    found, _ = await scored(model, tokens)
    assert -found[0].mean() == pytest.approx(float(losses["text"]), abs=1e-4)
    means = [-np.nanmean(row) for row in found[1:]]
    assert np.mean(means) == pytest.approx(float(losses["codes"]), abs=1e-4)


async def test_dialogues_are_scored_side_by_side_as_alone(model, tokens):
    alone, _ = await scored(model, tokens)
    short, _ = await scored(model, tokens[:, :7])
    results = {}

    async def one(index, dialogue):
        results[index], _ = await scored(model, dialogue)

    async with anyio.create_task_group() as group:
        for index in range(5):  # more than there are places
            group.start_soon(one, index, tokens if index % 2 else tokens[:, :7])
    for index, found in results.items():
        np.testing.assert_allclose(found, alone if index % 2 else short, atol=1e-3)
    assert model.free == model.sessions


async def test_a_place_is_free_again_when_a_reader_stops(model, tokens):
    async with aclosing(score(model, tokens)) as frames:
        async for _ in frames:
            break
    assert model.free == model.sessions


@pytest.mark.parametrize("wrong", ["a gap", "out of range", "streams", "nothing"])
async def test_wrong_tokens_are_refused(model, tokens, wrong):
    given = tokens.copy()
    if wrong == "a gap":
        given[0, 1] = UNGENERATED
    elif wrong == "out of range":
        given[1, 0] = model.spec.audio_vocabulary
    given = {"streams": given[1:], "nothing": given[:, :0]}.get(wrong, given)
    with pytest.raises(UsageError):
        await scored(model, given)
    assert model.free == model.sessions


async def test_what_the_model_raises_comes_to_who_is_scored():
    def fail(_):
        raise RuntimeError("no memory")

    with fake_model(on_step=fail) as model:
        with pytest.raises(duplex.DuplexError, match="no memory"):
            await scored(model, np.zeros((5, 4), np.int64))
        assert model.free == 1


async def test_a_model_that_is_closed_ends_a_score():
    model = fake_model()
    model.close()
    with pytest.raises(ClosedError):
        await scored(model, np.zeros((5, 4), np.int64))


def write_stereo(path, seconds=1.0, rate=24000, channels=2):
    noise = np.random.default_rng(0).normal(0, 3000, (round(seconds * rate), channels)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(noise.tobytes())


async def test_files(tmp_path, model):
    if model.backend != "torch":
        pytest.skip("files are the same with any backend")
    for name, rate in (("a", 24000), ("b", 8000), ("c", 44100)):
        write_stereo(tmp_path / f"{name}.wav", 1.1, rate)
    (tmp_path / "a.json").write_text(json.dumps({"chunks": [{"text": "hello", "timestamp": [0.1, 0.5]}]}))
    write_stereo(tmp_path / "mono.wav", channels=1)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    out = tmp_path / "out"
    results = {str(each.source.name): each for each in await score_files(model, [tmp_path], out)}
    assert {name: each.status for name, each in results.items()} == dict.fromkeys("abc", "done") | dict.fromkeys(
        ("mono", "bad"), "failed"
    )
    assert results["a"].summary["text"] == "transcript"
    assert results["a"].summary["streams"]["text"]["tokens"] == results["a"].summary["frames"] == 14
    assert results["b"].summary["text"] == "free"
    assert results["b"].summary["streams"]["text"]["perplexity"] is None
    assert "two mono files" in str(results["mono"].error)
    assert not (out / "mono").exists()
    again = await score_files(model, [tmp_path / "a.wav"], out)
    assert again[0].status == "skipped"
    (tmp_path / "a.json").write_text(json.dumps({"chunks": []}))  # other words are another dialogue
    assert (await score_files(model, [tmp_path / "a.wav"], out))[0].status == "done"
    left = await score_files(model, [tmp_path / "a.wav"], out, ScoreSettings(agent_channel="left"))
    assert left[0].status == "done"


async def test_scores_of_another_dialogue_are_not_replaced(tmp_path, model):
    if model.backend != "torch":
        pytest.skip("files are the same with any backend")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_stereo(tmp_path / name / "x.wav", 0.5 if name == "one" else 0.6)
    out = tmp_path / "out"
    await score_files(model, [tmp_path / "one" / "x.wav"], out)
    (result,) = await score_files(model, [tmp_path / "two" / "x.wav"], out)
    assert isinstance(result.error, OutputError)


async def test_nothing_stays_of_scores_that_cannot_be_written_to_their_end(tmp_path, model):
    if model.backend != "torch":
        pytest.skip("files are the same with any backend")
    write_stereo(tmp_path / "a.wav", 0.5)
    out = tmp_path / "out"
    (out / "a" / "summary.json").mkdir(parents=True)
    (out / "a" / "summary.json.01234567.part").touch()  # of a run that was killed
    (failed,) = await score_files(model, [tmp_path / "a.wav"], out, ScoreSettings(force=True))
    assert "summary.json cannot be written" in str(failed.error)
    assert [path.name for path in (out / "a").iterdir()] == ["summary.json"]
    (out / "a" / "summary.json").rmdir()
    (done,) = await score_files(model, [tmp_path / "a.wav"], out)
    assert done.status == "done"


async def test_a_channel_that_ends_first_is_silent_from_there_on(tmp_path, model):
    if model.backend != "torch":
        pytest.skip("files are the same with any backend")
    write_stereo(tmp_path / "call-left.wav", 3.0, channels=1)
    write_stereo(tmp_path / "call-right.wav", 0.8, channels=1)
    (source,) = find_scored([tmp_path])
    read = read_recorded(source, "right", model.spec, model.codec)
    silence = model.codec.encode(np.zeros(28 * model.spec.frame_size, np.float32))
    assert read.tokens.shape[1] == 38
    assert (read.tokens[1 : 1 + model.spec.agent_streams, 10:] == silence[: model.spec.agent_streams]).all()
    assert "the agent's channel is 2.20 s shorter, and counts as silence there" in read.notes
    half = (tmp_path / "call-right.wav").read_bytes()[: 44 + 2 * 4800]
    (tmp_path / "call-right.wav").write_bytes(half)
    read = read_recorded(source, "right", model.spec, model.codec)
    assert read.notes[0] == "call-right.wav was cut short, and counts up to there; get the whole file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_a_recording_that_comes_through_a_pipe(tmp_path, model):
    if model.backend != "torch":
        pytest.skip("files are the same with any backend")
    write_stereo(tmp_path / "a.wav", 0.5)
    pipe = tmp_path / "call.wav"
    os.mkfifo(pipe)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, pipe.write_bytes, (tmp_path / "a.wav").read_bytes())
        (result,) = await score_files(model, [pipe], tmp_path / "out")
    assert (result.status, result.summary["frames"]) == ("done", 7)
