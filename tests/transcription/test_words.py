"""Words from tokens: the published server's rule, which the library has, and the published script's beside it."""

import json

import attrs
import numpy as np
import pytest

from duplex.checkpoints.kind_configs import SttConfig
from duplex.checkpoints.tokenizer import SPACE, Tokenizer
from duplex.frame_model import ModelSpec
from duplex.transcription.protocol import Word
from duplex.transcription.words import EndWord, Placement, WordTimes
from recognition_support import DATA

SPEC = ModelSpec(
    kind="stt",
    sample_rate=24000,
    frame_size=1920,
    text_streams=1,
    agent_streams=0,
    user_streams=8,
    text_vocabulary=120,
    audio_vocabulary=64,
    text_padding=3,
    text_end_of_padding=0,
    delays=(0,) * 9,
    context=25,
    capacity=1,
)


class Numbers:
    """Writes tokens as numbers, where pieces of words would be."""

    def feed(self, token):
        return f" {token}"

    def finish(self):
        return ""


def machine(delay):
    return WordTimes(Numbers(), SPEC, delay)


def fed(times, tokens, first=1):
    return [found for step, token in enumerate(tokens, first) for found in times.feed(token, step)]


@pytest.fixture(params=["stt", "stt-prefix"])
def published(request):
    return json.loads((DATA / f"{request.param}-words.json").read_text())


def test_words_are_those_of_the_published_server(published):
    delay = Placement.of(SttConfig(**published["stt_config"]), SPEC).delay
    found = [
        {"stop": round(each.stop, 6)}
        if isinstance(each, EndWord)
        else {"tokens": [int(token) for token in each.text.split()], "start": round(each.start, 6)}
        for each in fed(machine(delay), published["text"])
    ]
    expected = [{name: value for name, value in each.items() if name != "word"} for each in published["server_words"]]
    assert found == expected


def test_a_word_ends_where_it_is_closed():
    assert fed(machine(2), [9, 0, 7, 8, 3, 3, 0, 5]) == [
        Word("7 8", 0.0, pytest.approx(3 * 0.08)),
        EndWord(pytest.approx(5 * 0.08)),
    ]


def test_the_last_word_is_told_at_the_end():
    times = machine(1)
    assert fed(times, [0, 7]) == []
    assert times.finish(2) == [Word("7", 0.0, pytest.approx(0.08))]
    assert times.finish(2) == []


def test_a_state_goes_on_in_the_middle_of_a_word(published):
    tokens, delay = published["text"], 6
    whole = fed(machine(delay), tokens)
    for cut in range(len(tokens)):
        before, after = machine(delay), machine(delay)
        found = fed(before, tokens[:cut])
        after.restore(before.state(), until=cut)
        assert found + fed(after, tokens[cut:], cut + 1) == whole


def test_a_state_without_inserted_silence_is_an_older_one():
    times = machine(1)
    state = times.state()
    del state["inserted"]
    times.restore(state, until=0)
    assert times.state()["inserted"].shape == (0, 2)


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": np.array([-1, 0, 0], np.int64)},
        {"counts": np.array([9999, 0, 0], np.int64)},
        {"counts": np.array([0, 2, 0], np.int64)},
        {"counts": np.zeros(3)},
        {"counts": np.zeros(2, np.int64)},
        {"text": np.zeros((1, 1), np.uint8)},
        {"text": np.array([255], np.uint8)},
        {"inserted": np.zeros(2, np.int64)},
        {"inserted": np.zeros((1, 2))},
        {"inserted": np.array([[0, 3]], np.int64)},
        {"inserted": np.array([[3, 0]], np.int64)},
        {"inserted": np.array([[3, 1 << 40]], np.int64)},
        {"inserted": np.array([[5, 1], [4, 1]], np.int64)},
        {"inserted": np.array([[11, 1]], np.int64)},
    ],
)
def test_a_damaged_state_is_refused(damage):
    times = machine(6)
    with pytest.raises(ValueError):  # noqa: PT011 -- the session's StateError has the words
        times.restore({**times.state(), **damage}, until=10)


def test_placements_are_the_published_ones():
    published = [SttConfig(audio_delay_seconds=0.5), SttConfig(audio_delay_seconds=2.5, audio_silence_prefix_seconds=1)]
    assert [Placement.of(config, SPEC) for config in published] == [
        Placement(lead=0, flush=8, delay=6),
        Placement(lead=24000, flush=33, delay=32),
    ]
    assert Placement.of(SttConfig(audio_delay_seconds=1.0), SPEC).delay == 12


def script_words(tokens, tokenizer, offset):
    """Return words by the rule of the published example script: ``(text, start, end)``, in seconds.

    A word takes as many frames as its text has tokens when it is tokenized by itself, the last the rest.
    """
    zeros = [index for index, token in enumerate(tokens) if token == 0]
    found = []
    for zero, following in zip(zeros, [*zeros[1:], None], strict=True):
        until = following if following is not None else min(zero + 1 + 12, len(tokens))
        pieces = [tokenizer.piece(token) for token in tokens[zero + 1 : until] if token not in (0, 3)]
        words = "".join(pieces).replace(SPACE, " ").split()
        place = zero + 1
        for index, word in enumerate(words):
            end = until if index == len(words) - 1 else place + len(tokenizer.encode(word))
            found.append((word, max(place / 12.5 - offset, 0.0), max(end / 12.5 - offset, 0.0)))
            place = end
    return found


def test_the_script_has_another_rule(recognizer):
    facts = recognizer.facts
    tokens = json.loads((DATA / "stt-prefix-words.json").read_text())["script_text"]
    tokenizer = Tokenizer.load(next(recognizer.folder.glob("tokenizer*")))
    offset = int(facts["front_frames"] / 12.5) + facts["stt_config"]["audio_delay_seconds"]
    found = script_words(tokens, tokenizer, offset)
    assert [text for text, _, _ in found] == [text for text, _, _ in facts["script_words"]]
    assert np.allclose([times for _, *times in found], [times for _, *times in facts["script_words"]], atol=1e-5)


def labelled(first, audio, stretches):
    """Return the audio frame that each frame of what the model hears belongs to, and whether it is inserted."""
    heard = []
    for place in range(first, audio + 1):
        heard += [(place, True)] * stretches.get(place, 0)
        if place < audio:
            heard.append((place, False))
    return heard


@pytest.mark.parametrize("delay", [2, 6, 32])
@pytest.mark.parametrize("seed", range(4))
def test_inserted_silence_takes_no_time(delay, seed):
    """Against a model that hears the silence as audio, with the places moved afterwards; from any state on."""
    random = np.random.default_rng(seed)
    stretches = {int(place): int(random.integers(1, 2 * delay)) for place in random.integers(1, 80, 5)}
    heard = labelled(0, 80, stretches)
    tokens = random.choice([0, 3, 3, 7, 8, 9], len(heard)).tolist()
    places = [place for place, _ in heard]

    def moved(seconds):
        return pytest.approx(places[round(seconds / 0.08)] * 0.08)

    plain = [
        EndWord(moved(each.stop))
        if isinstance(each, EndWord)
        else attrs.evolve(each, start=moved(each.start), end=moved(each.end))
        for each in fed(machine(delay), tokens, first=0)
    ]
    times, found = machine(delay), []
    for (place, inserted), token in zip(heard, tokens, strict=True):
        found += times.feed(token, place, inserted=inserted)
        after = machine(delay)
        after.restore(times.state(), until=80)
        times = after
    assert found == plain
    assert any(inserted for _, inserted in heard)
