"""Synthesis on the torch backend: the state machine is a part of the step, and nothing but the text is given."""

import json

import attrs
import numpy as np
import pytest
import torch
from family_support import FAMILY, GREEDY
from test_torch_synthesis_parts import conditions_of, load

from duplex.backends.torch.prefill import LONGEST_RUN
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.speech_script import TOKENS, SpeechScript
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.frame_model import UNGENERATED
from duplex.synthesis.machine import MachineSettings, TextMachine
from duplex.synthesis.script import Entry

RUNS = json.loads((FAMILY / "synthesis" / "expected.json").read_text())
SETTINGS = MachineSettings(vocabulary=121, delay_steps=4)
CPU = torch.device("cpu")


def allocated(declared, slots):
    return SlotState.allocate(declared, slots, dtype=torch.float32, device=CPU)


def entries_of(run):
    return [Entry(tuple(tokens), text, padding) for text, tokens, padding in run["entries"]]


def rings(script, slots):
    return allocated({f"lm.{name}": spec for name, spec in script.state_spec().items()}, slots)


def test_texts_side_by_side():
    """Every run of the reference in a slot of its own; those that are over go on beside the others."""
    script = SpeechScript(SETTINGS, torch.zeros(6, dtype=torch.int64))
    state = rings(script, len(RUNS))
    for slot, run in enumerate(RUNS):
        rows = state.rows(slot, slot + 1)
        script.begin(rows, "lm", prefix=run["prefix_frames"])
        script.say(rows, "lm", entries_of(run))
    longest = max(run["steps"] for run in RUNS)
    said = []
    for step in range(longest):
        sampled = torch.tensor([(run["predicted"] + [3] * longest)[step] for run in RUNS])
        said.append(script.text(sampled, torch.full((len(RUNS),), step), Call(state), "lm"))
    for run, row in zip(RUNS, torch.stack(said, 1).tolist(), strict=True):
        assert row[: run["steps"]] == run["text"]


def test_a_text_longer_than_the_ring_that_comes_in_pieces():
    """The same as the machine on the host, also where the rings have gone round."""
    rng = np.random.default_rng(3)
    script, machine = SpeechScript(SETTINGS, torch.zeros(6, dtype=torch.int64)), TextMachine(SETTINGS)
    state = rings(script, 1)
    script.begin(state, "lm")
    written, steps = 0, 0
    while written < 1.2 * TOKENS:
        lengths = rng.integers(0, 12, size=1)
        entry = [Entry(tuple(rng.integers(0, 120, length).tolist()), "w", int(length)) for length in lengths]
        machine.say(entry)
        script.say(state, "lm", entry)
        written += len(entry[0].tokens)
        while machine.ready:
            sampled = int(rng.choice([0, 3, 50]))
            got = script.text(torch.tensor([sampled]), torch.tensor([steps]), Call(state), "lm")
            assert int(got) == machine.feed(steps, sampled), steps
            steps += 1


@pytest.mark.parametrize(("tag", "coefficient"), [("", 2.0), ("cfg1.", 1.0)])
@torch.inference_mode()
def test_speech_of_the_published_program(tag, coefficient):
    lm, expected, voices = load("tts-cfg", guidance=coefficient != 1)
    run = next(run for run in RUNS if run["name"] == f"tts-cfg {tag or 'main'}".strip("."))
    script = SpeechScript(SETTINGS, torch.tensor(lm.config.delays[1:]))
    lm.script = script
    state = allocated(bind(lm, "lm", LONGEST_RUN), 1)
    options = attrs.evolve(GREEDY, guidance=coefficient)
    lm.begin(Call(state), options, conditions_of(expected, voices, None))
    script.begin(state, lm.key)
    script.say(state, lm.key, entries_of(run))
    tokens = torch.cat([lm(None, Call(state), Sampling.of([options])).tokens for _ in range(run["steps"])]).numpy()
    frames, latest = expected[f"{tag}frames"], max(lm.config.delays)
    np.testing.assert_array_equal(tokens[latest:, 1:].T, frames[1:])
    np.testing.assert_array_equal(tokens[latest:, 0], run["text"][: run["steps"] - latest])
    assert UNGENERATED not in tokens[latest:]
