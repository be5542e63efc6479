"""Recordings that fail, second runs, and models of other kinds."""

import json
import tracemalloc
from pathlib import Path, PurePath

import anyio
import attrs
import numpy as np
import pytest
from process_support import anyio_backend, model, touch  # noqa: F401

import duplex
from cli_support import FRAME, RATE, SMALL, files_below, noise, read_wav, tokens_of, write_float_wav, write_wav
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import CodecSpec
from duplex.engine.model import Model
from duplex.errors import AudioFileError, OutputError
from duplex.frame_model import ZERO, Frame, ModelSpec, StepResult
from duplex.process import Plan, Recipe, find_recordings, process
from duplex.results.files import RESULT_FILES
from duplex.results.writer import ResultWriter

pytestmark = pytest.mark.anyio


async def test_what_is_finished_is_skipped(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.3))
    out = tmp_path / "out"

    async def status(**options):
        (result,) = await process(model, [path], out, **options)
        return result.status

    assert await status() == "done"
    written = (out / "a" / "agent.wav").stat().st_mtime_ns
    (again,) = await process(model, [path], out)
    assert again.status == "skipped"
    assert again.text == json.loads((out / "a" / "transcript.json").read_text())["text"]
    assert again.seconds == pytest.approx(0.32)
    assert (out / "a" / "agent.wav").stat().st_mtime_ns == written
    for change in (
        {"options": duplex.SessionOptions(seed=1)},
        {"options": duplex.SessionOptions(greedy=True)},
        {"tail": 0.1},
        {"user_channel": "left"},
        {"settings": {"dtype": "bfloat16"}},
    ):
        assert await status(**change) == "done"
        assert await status(**change) == "skipped"
    assert await status() == "done"
    assert await status(force=True) == "done"
    for name in RESULT_FILES:
        (out / "a" / name).unlink()
        assert await status() == "done"
    (out / "a" / "run.json").write_text("{")
    assert await status() == "done"
    write_wav(path, noise(0.3, seed=1))
    assert await status() == "done"
    assert await status() == "skipped"
    assert files_below(out / "a") == sorted(RESULT_FILES)


async def test_another_checkpoint_under_the_same_name_is_noticed(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (first,) = await process(model, [path], tmp_path / "out")
    run = json.loads((first.folder / "run.json").read_text())
    recipe = Recipe(
        model="elsewhere",
        fingerprint=run["fingerprint"],
        options=duplex.SessionOptions().with_defaults(model.defaults),
    )
    recordings = find_recordings([path])
    assert not Plan.make(recordings, tmp_path / "out", recipe).tasks
    assert Plan.make(recordings, tmp_path / "out", attrs.evolve(recipe, fingerprint="other")).tasks
    assert Plan.make(recordings, tmp_path / "out", attrs.evolve(recipe, fingerprint="")).tasks


async def test_results_of_another_recording_are_not_replaced(model, tmp_path):
    one = write_wav(tmp_path / "one" / "x.wav", noise(0.2))
    two = write_wav(tmp_path / "two" / "x.wav", noise(0.2, seed=1))
    await process(model, [one], tmp_path / "out")
    before = (tmp_path / "out/x/run.json").read_bytes()
    (refused,) = await process(model, [two], tmp_path / "out")
    assert isinstance(refused.error, OutputError)
    assert "one/x.wav" in str(refused.error)
    assert (tmp_path / "out/x/run.json").read_bytes() == before
    (forced,) = await process(model, [two], tmp_path / "out", force=True)
    assert forced.status == "done"


async def test_a_recording_is_never_overwritten(model, tmp_path):
    path = write_wav(tmp_path / "agent" / "agent.wav", noise(0.2))
    before = path.read_bytes()
    (result,) = await process(model, [path], tmp_path)
    # The bare name of a result file stays; whatever it is called, the recording survives.
    assert path.read_bytes() == before
    assert result.status == "failed"
    assert "overwritten" in str(result.error)


async def test_a_bad_file_does_not_stop_the_others(model, tmp_path):
    write_wav(tmp_path / "in" / "b.wav", noise(0.3))
    write_wav(tmp_path / "in" / "d.wav", noise(0.3))
    write_wav(tmp_path / "in" / "c.wav", noise(3.0))
    (tmp_path / "in" / "a.wav").write_text("this is no sound")
    results = await process(model, [tmp_path / "in", tmp_path / "missing.wav"], tmp_path / "out")
    assert [result.status for result in results] == ["failed", "done", "done", "done", "failed"]
    assert all(isinstance(result.error, AudioFileError) for result in results if result.status == "failed")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "c", "d"]


async def test_a_recording_that_is_damaged_in_the_middle(model, tmp_path):
    pcm = noise(3.0)[:, 0]
    pcm[40000] = np.nan
    bad = write_float_wav(tmp_path / "a.wav", pcm)
    good = write_wav(tmp_path / "b.wav", noise(0.3))
    results = await process(model, [bad, good], tmp_path / "out")
    assert [result.status for result in results] == ["failed", "done"]
    assert "NaN" in str(results[0].error)
    assert files_below(tmp_path / "out") == [f"b/{name}" for name in sorted(RESULT_FILES)]
    assert model.free == model.sessions


async def test_a_failure_in_the_middle_leaves_nothing(model, tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", noise(4.0))

    def refuse(writer, pcm):
        raise OutputError(f"{writer.path} cannot be written: {len(pcm)} samples fill the disk")

    monkeypatch.setattr("duplex.results.writer.WavWriter.write", refuse)
    (result,) = await process(model, [path], tmp_path / "out")
    assert "fill the disk" in str(result.error)
    assert list((tmp_path / "out").iterdir()) == []
    assert model.free == model.sessions


async def test_a_failure_at_the_end_leaves_nothing(model, tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", noise(0.3))

    def refuse(path, data):
        raise OutputError(f"{path} cannot be written: {len(data)} bytes are too many")

    monkeypatch.setattr("duplex.results.writer.atomic_write_bytes", refuse)
    (result,) = await process(model, [path], tmp_path / "out")
    assert "run.json" in str(result.error)
    assert list((tmp_path / "out").iterdir()) == []


async def test_cancellation(model, tmp_path):
    write_wav(tmp_path / "in" / "a.wav", noise(0.2))
    for name in "bc":
        write_wav(tmp_path / "in" / f"{name}.wav", noise(20.0))
    with anyio.CancelScope() as scope:

        def progress(news):
            if news.recording.name == PurePath("c") and news.seconds > 1:
                scope.cancel()

        await process(model, [tmp_path / "in"], tmp_path / "out", progress=progress)
    assert scope.cancelled_caught
    assert files_below(tmp_path / "out") == [f"a/{name}" for name in sorted(RESULT_FILES)]
    assert model.free == model.sessions


async def test_what_a_killed_run_left_is_cleared(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    touch(tmp_path / "out" / "a", "agent.wav.0123abcd.part", "agent.wav", "mine.part")
    (result,) = await process(model, [path], tmp_path / "out")
    assert result.status == "done"
    assert files_below(tmp_path / "out" / "a") == sorted([*RESULT_FILES, "mine.part"])


async def test_a_second_run_into_the_same_folder_waits_for_its_turn(model, tmp_path):
    """It neither takes the first one's unfinished files for remains nor writes between them."""
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    with ResultWriter(tmp_path / "out" / "a", model.spec, model.tokenizer) as first:
        (second,) = await process(model, [path], tmp_path / "out")
        assert second.status == "failed"
        assert "is being written by another run" in str(second.error)
        first.commit({"seed": 1})
    assert files_below(tmp_path / "out" / "a") == sorted(RESULT_FILES)
    (third,) = await process(model, [path], tmp_path / "out", force=True)
    assert third.status == "done"


async def test_nothing_of_the_run_before_is_taken_for_the_next_ones(model, tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.3))
    await process(model, [path], tmp_path / "out", save_state=True)
    touch(tmp_path / "out" / "a", "mine.srt")
    await process(model, [path], tmp_path / "out", options=duplex.SessionOptions(seed=1))
    assert files_below(tmp_path / "out" / "a") == sorted([*RESULT_FILES, "mine.srt"])


async def test_progress(model, tmp_path):
    for name, seconds in (("a", 3.0), ("b", 1.5), ("c", 0.2)):
        write_wav(tmp_path / "in" / f"{name}.wav", noise(seconds))
    news = []
    results = await process(model, [tmp_path / "in"], tmp_path / "out", tail=0.4, progress=news.append)
    assert [one.result for one in news if one.result is not None and one.recording.name == PurePath("a")] == results[:1]
    done = [one.done for one in news]
    assert done == sorted(done)
    assert news[-1].done == pytest.approx(news[-1].total) == pytest.approx(sum(one.seconds for one in results))
    assert news[0].total == pytest.approx(4.7 + 3 * 0.4, abs=0.01)
    heard = [one.seconds for one in news if one.recording.name == PurePath("a")]
    assert heard == sorted(heard)
    assert len(heard) > 3


class Parrot:
    """A model that says what it hears, or that only listens."""

    def __init__(self, agent_streams, capacity=1):
        self.codec = CodecSpec(sample_rate=RATE, frame_size=FRAME, codebooks=2, vocabulary=8)
        self.spec = ModelSpec(
            sample_rate=RATE,
            frame_size=FRAME,
            text_streams=1,
            agent_streams=agent_streams,
            user_streams=2,
            text_vocabulary=96,
            audio_vocabulary=8,
            text_padding=3,
            text_end_of_padding=0,
            delays=(0,) * (3 + agent_streams),
            context=10,
            capacity=capacity,
        )
        self.step_count = 0

    def open(self, *_):
        self.step_count = 0

    def step(self, pcm, active):
        spec = self.spec
        self.step_count += 1
        return StepResult(
            valid=active.copy(),
            time_step=np.full(spec.capacity, self.step_count - 1),
            pcm=pcm.copy(),
            text=np.full(spec.capacity, 3, np.int64),
            agent=np.ones((spec.capacity, spec.agent_streams), np.int64),
            user=np.ones((spec.capacity, spec.user_streams), np.int64),
        )

    def close(self):
        pass


class Deaf:
    """No voice activity at all."""

    window = 0.08

    def __init__(self, sample_rate):
        pass

    def hear(self, _):
        return [0.0]


def parrot(agent_streams):
    tokenizer = Tokenizer.load(Path(SMALL) / "tokenizer_spm.model")
    return Model(Parrot(agent_streams), tokenizer, name="parrot", voice_activity=Deaf)


async def test_a_model_without_a_voice(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.5))
    with parrot(0) as listener:
        (result,) = await process(listener, [path], tmp_path / "out")
        (again,) = await process(listener, [path], tmp_path / "out")
    assert (result.status, again.status) == ("done", "skipped")
    assert files_below(result.folder) == sorted(set(RESULT_FILES) - {"agent.wav"})
    tokens = tokens_of(result.folder)
    assert tokens["agent"].shape == (0, 7)
    assert not read_wav(result.folder / "dialogue.wav")[:, 1].any()


@pytest.mark.parametrize("flushed", [False, True])
def test_skipped_frames_are_silence(tmp_path, flushed):
    with parrot(2) as model, ResultWriter(tmp_path / "out", model.spec, model.tokenizer) as writer:
        for place in (2, 3, 100, 101):
            pcm = np.full(FRAME, place / 128, np.float32)
            codes = np.full(2, place)
            writer.record(Frame(at=place * 0.08, user_pcm=pcm, agent_pcm=pcm, text=3, agent=codes, user=codes))
            if flushed:
                writer.flush()
        assert writer.frames == 102
        writer.commit({})
    expected = np.zeros(102)
    expected[[2, 3, 100, 101]] = [2, 3, 100, 101]
    for name, channels in (("agent.wav", 1), ("dialogue.wav", 2)):
        sound = read_wav(tmp_path / "out" / name)
        assert sound.shape == (102 * FRAME, channels)
        assert np.array_equal(sound[::FRAME], np.repeat(expected[:, None] * 256, channels, axis=1))
    tokens = tokens_of(tmp_path / "out")
    heard = expected > 0
    assert np.array_equal(tokens["text"], np.where(heard, 3, ZERO))
    for side in ("agent", "user"):
        assert np.array_equal(tokens[side], np.tile(np.where(heard, expected, ZERO), (2, 1)))


async def test_memory_is_flat(tmp_path):
    seconds = 240
    path = write_wav(tmp_path / "long.wav", np.zeros(RATE * seconds, np.float32))
    peaks = []
    with parrot(2) as model:

        def progress(news):
            if news.seconds > 30 and not tracemalloc.is_tracing():
                tracemalloc.start()
            elif tracemalloc.is_tracing():
                peaks.append(tracemalloc.get_traced_memory()[1])

        try:
            (result,) = await process(model, [path], tmp_path / "out", progress=progress)
        finally:
            tracemalloc.stop()
    assert result.seconds == seconds
    # A minute of what went through is 11 MB; what stays of it are 5 tokens of 4 bytes a frame.
    assert peaks[-1] < 12e6
    assert tokens_of(result.folder)["user"].shape == (2, 3000)


async def test_what_a_callback_raises_ends_it_as_it_is(model, tmp_path):
    """Not as a group of errors: nobody who calls it knows of the tasks within."""
    for name in "ab":
        write_wav(tmp_path / f"{name}.wav", noise(0.3))

    def told(_):
        raise BrokenPipeError("whoever read has gone")

    with pytest.raises(BrokenPipeError, match="whoever read has gone"):
        await process(model, [tmp_path], tmp_path / "out", progress=told)
