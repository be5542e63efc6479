"""Synthesis on each backend: the state machine is a part of the step, and nothing but the text is given."""

import importlib
import json
from pathlib import Path

import attrs
import numpy as np
import pytest
from family_support import FAMILY, GREEDY, WHOLE, voices_of
from safetensors.numpy import load_file

from duplex.backends.shared.script_state import TOKENS
from duplex.frame_model import UNGENERATED
from duplex.synthesis.machine import MachineSettings, TextMachine
from duplex.synthesis.script import Entry

RUNS = json.loads((FAMILY / "synthesis" / "expected.json").read_text())
SETTINGS = MachineSettings(vocabulary=121, delay_steps=4)
SPEECH = [("tts", "main", None), ("tts-cfg", "main", None), ("tts-cfg", "cfg1.", None)]
IN_WHOLE = [("tts", "nq4.", 4), ("tts", "between0.", None)]


@pytest.fixture(params=["torch", "mlx"])
def backend(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    return importlib.import_module(f"{request.param}_synthesis_support")


def entries_of(run):
    return [Entry(tuple(tokens), text, padding) for text, tokens, padding in run["entries"]]


def test_texts_side_by_side(backend):
    """Every run of the reference in a slot of its own; those that are over go on beside the others."""
    script = backend.Script(SETTINGS, len(RUNS))
    for slot, run in enumerate(RUNS):
        script.begin(slot, prefix=run["prefix_frames"])
        script.say(slot, entries_of(run))
    longest = max(run["steps"] for run in RUNS)
    sampled = [[(run["predicted"] + [3] * longest)[step] for run in RUNS] for step in range(longest)]
    said = np.array([script.text(each, step) for step, each in enumerate(sampled)]).T.tolist()
    for run, row in zip(RUNS, said, strict=True):
        assert row[: run["steps"]] == run["text"]


@pytest.mark.parametrize(("ahead", "length"), [(2, 6 * TOKENS // 5), (0, 200)])
def test_a_text_longer_than_the_ring_that_comes_in_pieces(backend, ahead, length):
    """The same as the machine on the host, also where the rings have gone round, and entries come many at a time."""
    rng = np.random.default_rng(3)
    settings = attrs.evolve(SETTINGS, ahead=ahead)
    script, machine = backend.Script(settings, 1), TextMachine(settings)
    script.begin(0)
    written, steps = 0, 0
    while written < length:
        lengths = rng.integers(0, 40, size=rng.integers(1, 5)).tolist()
        entries = [Entry(tuple(rng.integers(0, 120, count).tolist()), "w", count // 4) for count in lengths]
        machine.say(entries)
        script.say(0, entries)
        written += sum(lengths)
        while machine.ready:
            sampled = int(rng.choice([0, 3, 50]))
            assert script.text([sampled], steps) == [machine.feed(steps, sampled)], steps
            steps += 1


@pytest.mark.parametrize(("name", "tag", "streams"), SPEECH)
def test_speech_of_the_published_program(backend, name, tag, streams):
    run = next(run for run in RUNS if run["name"] == f"{name} {tag}".strip("."))
    check_speech(backend, FAMILY / name, tag, entries_of(run), streams, steps=run["steps"])


@pytest.mark.skipif(not WHOLE, reason="DUPLEX_FAMILY_REFERENCE names no folder")
@pytest.mark.parametrize(("name", "tag", "streams"), SPEECH + IN_WHOLE)
def test_speech_of_the_whole_reference(backend, name, tag, streams):
    folder = Path(WHOLE or ".") / name
    run = json.loads((folder / "expected.json").read_text())[tag]
    entries = [Entry(tuple(entry["tokens"]), entry["text"], entry["padding"]) for entry in run["entries"]]
    check_speech(backend, folder, tag, entries, streams, steps=run["end_step"] + 8)


def check_speech(backend, folder, tag, entries, streams, *, steps):
    """Say a run of the reference; what it says, and its codes, must be the same."""
    expected, prefix = load_file(folder / "expected.safetensors"), "" if tag == "main" else tag
    word = {} if folder.name == "tts-cfg" else {"cfg": "3.5" if tag == "between0." else "2.0"}
    options = attrs.evolve(GREEDY, guidance=2.0 if (folder.name, tag) == ("tts-cfg", "main") else 1.0)
    conditions = voices_of(folder, control="ok", **word)
    said = backend.spoken(folder, SETTINGS, entries, options, conditions, steps=steps, streams=streams)
    frames = expected[f"{prefix}frames"]
    np.testing.assert_array_equal(said[: len(frames)], frames)
    assert (said[len(frames) :] == -1).all()
    assert UNGENERATED not in said
