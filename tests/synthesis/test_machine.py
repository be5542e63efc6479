"""The text of a synthesis model against what the published program made of it: entries, steps and text tokens."""

import json
from pathlib import Path

import pytest

from duplex.checkpoints.tokenizer import Tokenizer
from duplex.synthesis.machine import MachineSettings, TextMachine
from duplex.synthesis.script import Entry, ScriptReader, read_script

FAMILY = Path(__file__).parents[1] / "data" / "family"
RUNS = json.loads((FAMILY / "synthesis" / "expected.json").read_text())
TOKENIZER = Tokenizer.load(FAMILY / "synthesis" / "tokenizer_spm_8k_en_fr_audio.model")
SETTINGS = MachineSettings(vocabulary=121, delay_steps=4)
FRAME_RATE = 12.5


def word(text, tokens=(9,), padding=0):
    return Entry(tuple(tokens), text, padding)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["name"])
def test_entries(run):
    reader = ScriptReader(TOKENIZER, FRAME_RATE, speakers=run["speakers"], padding_between=run["padding_between"])
    entries = read_script(run["turns"], reader)
    assert [[entry.text, list(entry.tokens), entry.padding] for entry in entries] == run["entries"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["name"])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_the_published_machine_does(run, at_once):
    """Also with words that come one by one, as late as a step may wait for them."""
    machine = TextMachine(SETTINGS)
    waiting = [Entry(tuple(tokens), text, padding) for text, tokens, padding in run["entries"]]
    if at_once:
        machine.say(waiting)
        waiting, machine.complete = [], True
    text = []
    for step, sampled in enumerate(run["predicted"]):
        if step < run["prefix_frames"]:
            text.append(-1)
            continue
        while not machine.ready:
            if waiting:
                machine.say([waiting.pop(0)])
            machine.complete = not waiting
        text.append(machine.feed(step, sampled))
    assert text == run["text"]
    assert machine.taken == run["consumption_times"]
    assert [list(pair) for pair in machine.words] == run["transcript"]
    assert (machine.end_step, machine.last_step) == (run["end_step"], run["steps"])


def test_what_is_read_of_a_text():
    reader = ScriptReader(TOKENIZER, FRAME_RATE)
    entries = reader.turn('don\u2019t: (stop)<break time="1s"/>now\n')
    assert [entry.text for entry in entries] == ["don't", "stop", "", "now"]
    assert [entry.padding for entry in entries if not entry.tokens] == [12]
    assert entries[0].tokens[0] == 1
    assert reader.turn("more")[0].tokens[0] != 1
    assert reader.turn("me", speaker=1)[0].tokens[0] == 2
    assert reader.turn(" \t\n") == reader.turn("") == []


def test_a_step_waits_for_the_words_it_looks_ahead_to():
    machine = TextMachine(SETTINGS)
    assert not machine.ready
    machine.say([word("a"), word("b")])
    assert not machine.ready
    machine.say([word("c")])
    assert machine.ready
    waiting = TextMachine(SETTINGS)
    waiting.say([Entry((), "", 5)])
    assert waiting.ready
    ended = TextMachine(SETTINGS, complete=True)
    assert ended.ready


def test_a_text_without_words_ends_after_the_first_padding():
    machine = TextMachine(SETTINGS, complete=True)
    for step in range(4):
        machine.feed(step, 3)
    assert machine.end_step == SETTINGS.initial_padding


def test_a_model_without_a_second_stream():
    machine = TextMachine(MachineSettings(vocabulary=121, ahead=0), complete=True)
    machine.say([word("a", (9, 10))])
    assert [machine.feed(step, 0) for step in range(7)] == [3, 3, 0, 9, 10, 3, 3]
    assert machine.end_step == 5
