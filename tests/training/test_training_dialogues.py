"""Dialogues to train on: what is said, how it is staged, and what the model sees of it."""

import itertools
import re

import numpy as np
import pytest
from dialogues_support import FRAME, SPEAKER, rng_of

from cli_support import RATE
from duplex.audio.pcm import level_dbfs
from duplex.errors import CorpusError
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.facts import NAMES, NUMBERS
from duplex.training.dialogues.microphone import microphone_signal
from duplex.training.dialogues.phrasings import PHRASINGS, PREFIXES, Phrasings
from duplex.training.dialogues.scenes import (
    AGENT_BACKCHANNELS,
    PONDERING,
    SCENES,
    STOPPING,
    Script,
    interruption,
    introduction,
    long_turn,
    monologue,
    question_and_answer,
)
from duplex.training.dialogues.simulation import simulate_dialogue
from duplex.training.dialogues.speech import speak_words, trim_silence
from duplex.training.dialogues.timeline import Channel, DialogueTimeline
from duplex.training.dialogues.topics import TOPICS, Memory, draw_exchange


def spoken(phrasing):
    return re.sub(r"[^a-z{}' ]", "", phrasing.lower().replace("| ", ""))


@pytest.mark.parametrize("topic", TOPICS)
def test_phrasings_for_testing_are_in_no_training(topic):
    assert PHRASINGS.keys() == TOPICS.keys()
    phrasings, rng = PHRASINGS[topic], rng_of()
    drawn = {phrasings.draw("training", rng) for _ in range(2000)}
    assert not [phrasing for phrasing in drawn if set(phrasing) & set("[]/")]
    if topic != "unknown":
        assert not {spoken(phrasing) for phrasing in drawn} & {spoken(phrasing) for phrasing in phrasings.testing}
        assert {phrasings.draw("testing", rng) for _ in range(200)} == set(phrasings.testing)
        assert len(drawn) > 100


def test_one_of_the_alternatives_is_drawn():
    phrasings, rng = Phrasings(("[Okay, /]bye[ then/].",), ("Bye.",)), rng_of()
    drawn = [phrasings.draw("training", rng) for _ in range(400)]
    plain = [phrasing for phrasing in drawn if not phrasing.startswith(tuple(set(PREFIXES) - {"Okay, "}))]
    assert set(plain) == {"Okay, bye then.", "Okay, bye.", "bye then."}
    assert 20 < len(drawn) - len(plain) < 180
    assert "Well, bye." in drawn


def test_what_begins_with_a_name_keeps_its_capital():
    phrasings, rng = Phrasings(("I am here.", "{name} is.", "It is."), ()), rng_of()
    drawn = {phrasings.draw("training", rng) for _ in range(600)}
    assert {"Well, I am here.", "Well, {name} is.", "Well, it is.", "It is."} <= drawn


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
    slow = set()
    for seed in range(24):
        timeline = DialogueTimeline(SPEAKER, rng_of(seed))
        question_and_answer(Script(timeline, "training"))
        asked, answered = spans(timeline.user)[-1][1], spans(timeline.agent)[0][0]
        unknown = timeline.agent.words[-1].text == "that."
        assert PONDERING[0] < answered - asked < PONDERING[1] + 0.1 if unknown else 0.25 < answered - asked < 0.55
        slow.add(unknown)
    assert slow == {False, True}


def test_who_tells_something_is_listened_to():
    resumed = 0
    for seed in range(12):
        timeline = DialogueTimeline(SPEAKER, rng_of(seed))
        monologue(Script(timeline, "training"))
        user, agent = spans(timeline.user), spans(timeline.agent)
        over = [start for start, _ in user if any(first < start < last for first, last in agent)]
        resumed += any(first < user[-1][0] for first, _ in agent)
        assert agent[-1][0] > user[-1][1] + PONDERING[0]
        assert not any(start + STOPPING[1] + FRAME < first < user[-1][1] for start in over for first, _ in agent)
    assert 2 < resumed < 10


def test_what_was_said_is_said_again():
    rng, memory = rng_of(), Memory()
    assert draw_exchange("again", "training", rng, memory).answer == "I have told you nothing."
    told = draw_exchange("capital", "training", rng, memory).answer
    assert draw_exchange("again", "testing", rng, memory).answer == told


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


def test_a_dialogue_is_held_again_by_a_similar_voice_elsewhere():
    one, two = (
        simulate_dialogue("one", (SPEAKER,), 25.0, rng_of(), "training", stretch=stretch, rooms=rng_of(seed))
        for seed, stretch in enumerate((1.0, 1.1))
    )
    count = min(len(one.user_words), len(two.user_words))
    assert [word.text for word in one.user_words[:count]] == [word.text for word in two.user_words[:count]]
    lengths = [each.user_words[count - 1].end - each.user_words[0].start for each in (one, two)]
    assert lengths[1] < lengths[0]
    assert not np.array_equal(one.user[:RATE], two.user[:RATE])


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
