"""Recorded dialogues: what is written, what it is called, and what happens when things go otherwise."""

import json
import tracemalloc
from pathlib import Path, PurePath

import anyio
import attrs
import numpy as np
import pytest

import duplex
from cli_support import FRAME, RATE, SMALL, files_below, noise, read_wav, tokens_of, write_float_wav, write_wav
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import CodecSpec
from duplex.engine.model import Model
from duplex.errors import AudioFileError, OutputError, UsageError
from duplex.frame_model import ZERO, Frame, ModelSpec, StepResult
from duplex.process import Plan, Recipe, find_recordings, process
from duplex.results.files import RESULT_FILES, ResultWriter

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def model():
    with duplex.load(SMALL, sessions=2, deterministic=True) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def one_at_a_time():
    with duplex.load(SMALL, deterministic=True) as loaded:
        yield loaded


def names_of(inputs, out=None):
    return {recording.path: str(recording.name) for recording in find_recordings(inputs, out)}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# Names


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


# Files


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


# A second run


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


# Failures


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

    monkeypatch.setattr("duplex.results.files.WavWriter.write", refuse)
    (result,) = await process(model, [path], tmp_path / "out")
    assert "fill the disk" in str(result.error)
    assert list((tmp_path / "out").iterdir()) == []
    assert model.free == model.sessions


async def test_a_failure_at_the_end_leaves_nothing(model, tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", noise(0.3))

    def refuse(path, data):
        raise OutputError(f"{path} cannot be written: {len(data)} bytes are too many")

    monkeypatch.setattr("duplex.results.files.atomic_write_bytes", refuse)
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


# Models of other kinds, and long recordings


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
