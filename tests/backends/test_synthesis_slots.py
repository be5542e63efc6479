"""Slots that say texts: beside others, exported in the middle of a word, and taken up elsewhere."""

import json

import attrs
import numpy as np
import pytest
from family_support import FAMILY, GREEDY, load_family, voices_of
from safetensors.numpy import load_file

from duplex.backends.shared.pieces import finish
from duplex.backends.shared.script_state import AT
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.errors import StateError
from duplex.frame_model import SessionState
from duplex.synthesis.script import Entry

RUNS = {run["name"]: run for run in json.loads((FAMILY / "synthesis" / "expected.json").read_text())}
SAMPLED = attrs.evolve(GREEDY, temperature=0.8, text_temperature=0.8, top_k=50, text_top_k=25, seed=5, greedy=False)
STEPS = 40
MOMENTS = [("tts", 7), ("tts-cfg", 30)]
"""A model, and the frames that it has said: before there is sound, among a word's tokens, in forced padding."""
MORE = [("tts", 1), ("tts", 4), ("tts", 30), ("tts-cfg", 1), ("tts-cfg", 7)]
MOMENTS += [pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE]


class Voice:
    """What a slot says, step by step."""

    def __init__(self, model, slot):
        self.model, self.slot, self.audio, self.progress = model, slot, [], []
        self.held = model.slots[slot]

    def begin(self, name, options=GREEDY, entries=None):
        words = {} if name == "tts-cfg" else {"cfg": "2.0"}
        options = attrs.evolve(options, guidance=2.0 if name == "tts-cfg" else 1.0)
        self.model.open(self.slot, options, voices_of(FAMILY / name, control="ok", **words))
        self.model.say(self.slot, entries_of(name) if entries is None else entries)
        return self

    @property
    def tokens(self):
        return self.held.log.columns.T


def entries_of(name):
    return [Entry(tuple(tokens), text, padding) for text, tokens, padding in RUNS[f"{name} main"]["entries"]]


def advance(steps, *voices):
    """Step voices of one model side by side."""
    model = voices[0].model
    active = np.zeros(model.spec.capacity, np.bool_)
    active[[voice.slot for voice in voices]] = True
    silence = np.zeros((model.spec.capacity, model.spec.frame_size), np.float32)
    for _ in range(steps):
        result = model.step(silence, active)
        assert not result.errors
        for voice in voices:
            voice.held = model.slots[voice.slot]
            voice.progress.append(result.script[voice.slot].tolist())
            if result.valid[voice.slot]:
                voice.audio.append(result.pcm[voice.slot].copy())


def taken(model, slot):
    """Return a slot's state as another process would have it: copied, and whole."""
    state = model.export(slot)
    return SessionState(metadata=dict(state.metadata), tensors={name: state.tensors[name] for name in state.tensors})


def loaded(backend, name="tts", **given):
    if backend == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    tts = TtsConfig(**json.loads((FAMILY / name / "config.json").read_text())["tts_config"])
    return load_family(name, backend, **{"sessions": 3, "tts": tts, "guidance": name == "tts-cfg"} | given)[0]


@pytest.fixture(scope="module")
def models():
    made = {}

    def model(backend, name="tts"):
        if (backend, name) not in made:
            made[backend, name] = loaded(backend, name)
        return made[backend, name]

    yield model
    for each in made.values():
        each.close()


@pytest.fixture(params=["torch", "mlx"])
def backend(request):
    return request.param


@pytest.mark.parametrize("name", ["tts", "tts-cfg"])
def test_codes_of_the_published_program(models, backend, name):
    """Beside others who say something else, in other words; the sound begins with its own codes."""
    model, run = models(backend, name), RUNS[f"{name} main"]
    others = [Voice(model, slot).begin(name, SAMPLED, entries_of(name)[slot:]) for slot in (0, 2)]
    voice = Voice(model, 1).begin(name)
    advance(run["steps"], *others, voice)
    frames = load_file(FAMILY / name / "expected.safetensors")["frames"]
    np.testing.assert_array_equal(voice.tokens[:, : frames.shape[1]], frames)
    assert voice.progress[-1] == [len(run["entries"]), len(run["transcript"]), run["end_step"]]
    words = [begun for _, begun, _ in voice.progress]
    at = [1 + words.index(number) for number in range(1, 1 + words[-1])]  # the first step was that of opening the slot
    assert at == [step for _, step in run["transcript"]]
    assert len(voice.audio) == run["steps"] - 1 - model.delay_steps


@pytest.mark.parametrize(("name", "at"), MOMENTS)
def test_moved_to_another_slot(models, backend, name, at):
    """Exactly as if nothing had happened."""
    model = models(backend, name)
    whole = Voice(model, 0).begin(name, SAMPLED)
    advance(STEPS, whole)
    begun, other = Voice(model, 0).begin(name, SAMPLED), Voice(model, 1).begin(name, GREEDY)
    advance(at, begun, other)
    state = taken(model, 0)
    moved = Voice(model, 2)
    finish(model.restore(2, state))
    advance(STEPS - at, moved, other)
    np.testing.assert_array_equal(moved.tokens, whole.tokens)
    assert moved.progress == whole.progress[at:]
    np.testing.assert_allclose(begun.audio + moved.audio, whole.audio, atol=1e-5)


@pytest.mark.parametrize(("name", "at"), MOMENTS)
@pytest.mark.parametrize(("here", "there"), [("torch", "mlx"), ("mlx", "torch")])
def test_taken_up_by_the_other_backend(models, name, here, there, at):
    """The language model's past is rebuilt from its tokens; what is yet to be said is taken over."""
    begun = Voice(models(here, name), 0).begin(name)
    advance(at, begun)
    moved, model = Voice(models(there, name), 1), models(there, name)
    finish(model.restore(1, taken(models(here, name), 0)))
    advance(STEPS - at, moved)
    advance(STEPS - at, begun)
    np.testing.assert_array_equal(moved.tokens, begun.tokens)
    assert moved.progress == begun.progress[at:]
    np.testing.assert_allclose(moved.audio, begun.audio[-len(moved.audio) :], atol=1e-3)


def test_more_is_said_after_a_restore(models, backend):
    model, entries = models(backend), entries_of("tts")
    whole = Voice(model, 0).begin("tts")
    advance(STEPS, whole)
    begun = Voice(model, 0).begin("tts", entries=entries[:5])
    advance(5, begun)
    state = taken(model, 0)
    model.say(0, [Entry((9,), "other", 0)])  # what is said later is no part of the state
    finish(model.restore(1, state))
    model.say(1, entries[5:])
    moved = Voice(model, 1)
    advance(STEPS - 5, moved)
    np.testing.assert_array_equal(moved.tokens, whole.tokens)


def test_an_export_is_of_the_moment_it_was_asked_for(models, backend):
    """Its tensors are copied one by one, between steps of the others; the slot is not stepped, but may be told more."""
    model = models(backend)
    voice, other = Voice(model, 0).begin("tts"), Voice(model, 1).begin("tts", SAMPLED)
    advance(5, voice, other)
    state, found = model.export(0), {}
    for name in state.tensors:
        advance(1, other)
        model.say(0, [Entry((9, 10), "more", 0)])
        found[name] = state.tensors[name]
    numbers, entries = found["lm.script.numbers"], found["lm.script.entries"]
    ends = entries[: numbers[AT["entries"]], 0]
    assert ends[-1] == ends.max() == numbers[AT["written"]]
    advance(STEPS - 5, voice)
    moved = Voice(model, 2)
    finish(model.restore(2, SessionState(metadata=state.metadata, tensors=found)))
    advance(STEPS - 5, moved)
    np.testing.assert_array_equal(moved.tokens, voice.tokens)


def test_many_side_by_side(backend):
    """Deterministic: each as if it were alone."""
    model = loaded(backend, sessions=6, deterministic=True)
    voices = [Voice(model, slot).begin("tts", SAMPLED, entries_of("tts")[slot:]) for slot in range(6)]
    for start in (0, 3):  # they begin and go on at different times
        advance(6, *voices[start:])
    advance(12, *voices)
    for slot in (1, 4):
        alone = Voice(model, 0).begin("tts", SAMPLED, entries_of("tts")[slot:])
        advance(len(voices[slot].progress), alone)
        np.testing.assert_array_equal(alone.tokens, voices[slot].tokens)
        np.testing.assert_array_equal(alone.audio, voices[slot].audio)
    model.close()


def changed(state, name, **values):
    array = state.tensors[name].copy()
    for key, value in values.items():
        array[AT[key] if key in AT else slice(None)] = value
    return SessionState(metadata=state.metadata, tensors={**state.tensors, name: array})


def test_damaged_texts(models, backend):
    """A token that no table has, places that lead nowhere, or none: refused, and whoever speaks goes on."""
    model = models(backend)
    voice = Voice(model, 0).begin("tts")
    advance(8, voice)
    state = taken(model, 0)
    cases = [changed(state, "lm.script.tokens", every=value) for value in (-1, 121, 2**40)]
    cases += [changed(state, "lm.script.entries", every=-1), changed(state, "lm.script.words", every=2**31)]
    beyond = {"next": 2000, "queue_end": 2**20, "word": -1, "remaining": -2, "written": 0, "end": 2**40}
    cases += [changed(state, "lm.script.numbers", **{key: value}) for key, value in beyond.items()]
    numbers = {"lm.script.numbers": state.tensors["lm.script.numbers"]}
    for tensors in (
        {name: array for name, array in state.tensors.items() if name not in numbers},
        state.tensors | {"lm.script.numbers": numbers["lm.script.numbers"].astype(np.float32)},
        state.tensors | {"lm.script.tokens": state.tensors["lm.script.tokens"][:5]},
    ):
        cases.append(SessionState(metadata=state.metadata, tensors=tensors))
    for case in cases:
        with pytest.raises(StateError, match="damaged"):
            finish(model.restore(1, case))
    finish(model.restore(1, state))
    moved = Voice(model, 1)
    advance(STEPS - 8, voice, moved)
    np.testing.assert_array_equal(moved.tokens, voice.tokens)
    with pytest.raises(StateError, match="another checkpoint"):
        finish(models(backend, "tts-cfg").restore(0, state))
