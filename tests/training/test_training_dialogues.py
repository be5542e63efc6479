"""Dialogues to train on: what is said, how it is staged, and what the model sees of it."""

import itertools
import json
import re

import attrs
import numpy as np
import pytest

import duplex
from cli_support import RATE
from duplex.audio.pcm import level_dbfs
from duplex.audio.wav import WavWriter
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.errors import CorpusError, MissingDependencyError, UsageError
from duplex.frame_model import UNGENERATED
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import HELD_OUT_VOICES, TRAINING_VOICES, Voice
from duplex.training.dialogues.caching_encoder import CachingEncoder
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.facts import NAMES, NUMBERS
from duplex.training.dialogues.microphone import microphone_signal
from duplex.training.dialogues.phrasings import PHRASINGS
from duplex.training.dialogues.plan import TOKENIZER, SimulatedDialogues, plan_dialogues, plan_recorded_dialogues
from duplex.training.dialogues.recorded import read_dialogue
from duplex.training.dialogues.scenes import (
    AGENT_BACKCHANNELS,
    SCENES,
    STOPPING,
    Script,
    interruption,
    introduction,
    long_turn,
    question_and_answer,
)
from duplex.training.dialogues.shards import Provenance, fingerprint, read_dialogues, write_dialogues
from duplex.training.dialogues.simulation import simulate_dialogue
from duplex.training.dialogues.speech import speak_words, trim_silence
from duplex.training.dialogues.timeline import Channel, DialogueTimeline
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.dialogues.tokens import DialogueTokens, SpecialTokens, align_words, tokenize
from duplex.training.dialogues.topics import TOPICS, Memory, draw_exchange
from training_support import harmonics

MARKS = SpecialTokens()
SPEAKER = Voice(name="m3", engine="espeak", variants=("en-us+m3",))
FRAME = 0.08


def rng_of(seed=0):
    return np.random.default_rng(seed)


# What is said


def test_phrasings_for_testing_are_in_no_training():
    assert PHRASINGS.keys() == TOPICS.keys()
    for topic, phrasings in PHRASINGS.items():
        if topic != "unknown":
            assert not {text.replace("| ", "") for text in phrasings.training} & {
                text.replace("| ", "") for text in phrasings.testing
            }, topic


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("use", ["training", "testing"])
def test_answers_have_their_keys(topic, use):
    rng = rng_of()
    for _ in range(60):
        found = draw_exchange(topic, use, rng, Memory(name="Anna" if rng.random() < 0.5 else None))
        words = re.sub(r"[^a-z ]", "", found.answer.lower())
        assert any(f" {key} " in f" {words} " for key in found.keys), found
        assert not found.exact or words == found.keys[0]
        assert "{" not in found.question + found.answer
        assert found.question[0].isupper()
        assert found.question[-1] in ".?"
        assert found.answer[0].isupper()


def test_sums_are_right():
    rng = rng_of()
    for topic, sign in (("add", 1), ("subtract", -1)):
        for _ in range(100):
            first, second, total = re.findall(
                "|".join(sorted(NUMBERS, key=len, reverse=True)),
                draw_exchange(topic, "training", rng, Memory()).answer.lower(),
            )
            assert NUMBERS.index(first) + sign * NUMBERS.index(second) == NUMBERS.index(total)


def test_days_follow_each_other():
    rng = rng_of()
    found = {draw_exchange("after", "training", rng, Memory()).answer for _ in range(300)}
    assert "Monday comes after Sunday." in found
    assert "January comes after December." in found
    assert len(found) == 19


def test_names_are_remembered():
    rng, memory = rng_of(), Memory()
    assert "not told me" in draw_exchange("ask name", "training", rng, memory).answer
    told = draw_exchange("tell name", "training", rng, memory)
    assert memory.name in NAMES
    assert memory.name in told.question
    assert draw_exchange("ask name", "testing", rng, memory).answer == f"Your name is {memory.name}."


# Speech and its words


def test_words_have_their_places():
    pcm, words = speak_words(SPEAKER, "What is, of all, the capital?", rng_of())
    assert [word.text for word in words] == ["What", "is,", "of", "all,", "the", "capital?"]
    assert words[0].start == 0
    assert words[-1].end == pytest.approx(len(pcm) / SAMPLE_RATE)
    assert all(one.end <= two.start + 1e-9 for one, two in itertools.pairwise(words))
    assert words[2].start > words[1].end  # a comma is a pause
    assert words[3].start == pytest.approx(words[2].end)
    assert words[-1].end - words[-1].start > words[1].end - words[1].start


def test_silence_is_trimmed():
    speech = SPEAKER.speak("Hello there.", rng_of())
    padded = np.pad(speech, (SAMPLE_RATE, SAMPLE_RATE // 2))
    assert 0.5 * len(speech) < len(trim_silence(padded)) <= len(speech) + SAMPLE_RATE // 20
    silence = np.zeros(100, np.float32)
    assert np.array_equal(trim_silence(silence), silence)


# The stage


def test_a_channel_adds_up():
    channel = Channel()
    channel.add(0.5, np.ones(SAMPLE_RATE, np.float32), [Word("one", 0.0, 0.4), Word("two", 0.5, 1.0)])
    channel.add(1.0, np.ones(SAMPLE_RATE, np.float32), [Word("three", 0.0, 1.0)])
    assert channel.end == 2.0
    sound = channel.sound(1.75)
    assert [sound[int(second * SAMPLE_RATE)] for second in (0.25, 0.75, 1.25, 1.6)] == [0, 1, 2, 1]
    assert [(word.text, word.start, word.end) for word in channel.words] == [
        ("one", 0.5, 0.9),
        ("two", 1.0, 1.5),
        ("three", 1.0, 2.0),
    ]


def test_who_is_cut_falls_silent():
    channel = Channel()
    channel.add(0.0, np.ones(2 * SAMPLE_RATE, np.float32), [Word("one", 0.0, 0.9), Word("two", 1.1, 2.0)])
    channel.add(1.5, np.ones(SAMPLE_RATE, np.float32), [Word("three", 0.0, 1.0)])
    channel.cut(1.2)
    assert channel.end == pytest.approx(1.2)
    assert [(word.text, word.end) for word in channel.words] == [("one", 0.9), ("two", 1.2)]
    sound = channel.sound(2.0)
    assert sound[int(1.1 * SAMPLE_RATE)] == 1
    assert 0 < sound[int(1.19 * SAMPLE_RATE)] < 1  # it fades, and does not click
    assert not sound[int(1.2 * SAMPLE_RATE) :].any()


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_go_forward_and_end_in_silence(scene):
    timeline = DialogueTimeline(SPEAKER, rng_of())
    script = Script(timeline, "training")
    for _ in range(4):
        before = timeline.now
        scene(script)
        assert timeline.now > before
        assert max(timeline.user.end, timeline.agent.end) <= timeline.now + 1e-3


def spans(channel):
    return sorted((word.start, word.end) for word in channel.words)


def test_answers_come_soon_and_not_too_soon():
    for seed in range(12):
        timeline = DialogueTimeline(SPEAKER, rng_of(seed))
        question_and_answer(Script(timeline, "training"))
        asked, answered = spans(timeline.user)[-1][1], spans(timeline.agent)[0][0]
        assert 0.25 < answered - asked < 0.55


def test_an_interruption_is_yielded_to():
    cut = 0
    for seed in range(12):
        timeline = DialogueTimeline(SPEAKER, rng_of(seed))
        interruption(Script(timeline, "training"))
        user, agent = spans(timeline.user), spans(timeline.agent)
        onsets = [two[0] for one, two in itertools.pairwise(user) if two[0] - one[1] > 0.5]
        overlapped = [start for start in onsets if any(first < start < last for first, last in agent)]
        for start in overlapped:
            cut += 1
            later = [first for first, _ in agent if first > start + STOPPING[1] + FRAME]
            assert not later or min(later) > user[-1][1] + 0.2
    assert cut > 4


def test_names_are_asked_for_soon_after_they_are_told():
    timeline = DialogueTimeline(SPEAKER, rng_of())
    script = Script(timeline, "training")
    introduction(script)
    assert [word.text for word in timeline.agent.words[-4:]] == ["Your", "name", "is", f"{script.memory.name}."]


def test_long_turns_are_accompanied():
    timeline = DialogueTimeline(SPEAKER, rng_of())
    long_turn(Script(timeline, "training"))
    told = [word.text for word in timeline.agent.words]
    assert sum(word in AGENT_BACKCHANNELS for word in told) >= 2


# What the microphone hears


def test_what_is_heard_besides_the_user():
    rng = rng_of()
    user, agent = np.zeros(10 * RATE, np.float32), np.zeros(10 * RATE, np.float32)
    user[RATE : 2 * RATE] = 0.1 * np.sin(np.arange(RATE) / 20)
    agent[3 * RATE : 4 * RATE] = 0.1 * np.sin(np.arange(RATE) / 15)
    levels = []
    for _ in range(60):
        sound = microphone_signal(user, agent, [(5.0, 10.0)], SPEAKER, rng)
        assert (sound.dtype, sound.shape) == (np.float32, user.shape)
        assert np.abs(sound).max() <= 1
        spans = ((1, 2), (3, 4), (5, 10))
        levels.append([level_dbfs(sound[start * RATE : end * RATE]) for start, end in spans])
    said_, echoed, quiet = np.array(levels).T
    assert said_.min() > -45
    assert 0.2 < np.mean(echoed > -60) < 0.95
    assert 0.3 < np.mean(quiet > -60) < 0.95


def test_a_dialogue():
    made = simulate_dialogue("one", (SPEAKER,), 25.0, rng_of(), "training")
    again = simulate_dialogue("one", (SPEAKER,), 25.0, rng_of(), "training")
    assert np.array_equal(made.user, again.user)
    assert made.agent_words == again.agent_words
    assert 25 < made.seconds < 60
    assert made.user.any()
    assert made.agent.any()
    assert {*made.user_words, *made.agent_words}
    assert all(one.start <= two.start for one, two in itertools.pairwise(made.user_words))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent": np.zeros(RATE, np.float32)}, "48000 samples and the agent's 24000"),
        ({"agent_words": (Word("late", 2.5, 2.7),)}, r"the word 'late' is said from 2\.5 to 2\.7 s"),
        ({"agent_words": (Word("odd", float("nan"), 1.0),)}, "the word 'odd' is said from nan"),
        ({"user_words": (Word("back", 1.0, 0.5),)}, "the word 'back'"),
    ],
)
def test_dialogues_that_make_no_sense(changes, words):
    whole = {"name": "talk", "sample_rate": RATE, "agent_words": ()}
    whole |= {"user": np.zeros(2 * RATE, np.float32), "agent": np.zeros(2 * RATE, np.float32)}
    with pytest.raises(CorpusError, match=f"talk: .*{words}"):
        Dialogue(**{**whole, **changes})


# Tokens


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


# On disk


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


# Recorded dialogues


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
