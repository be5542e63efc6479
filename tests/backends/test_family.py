"""Relatives of Moshi: the tokens that the published programs choose, column by column."""

import attrs
import numpy as np
import pytest
from family_support import GREEDY, encoder_state, load_family, said

from duplex.backends.shared.pieces import finish
from duplex.errors import StateError, UsageError
from duplex.frame_model import Conditions

NAMES = ["hibiki", "hibiki-zero"]
HEADS, SHARING = 4, 2
"""Heads of queries of hibiki-zero, and how many of them share a key and a value."""
GOOD = Conditions(words={"description": "very_good"})


@pytest.fixture(scope="module", params=["torch", "mlx"])
def family(request):
    """Return loaded models by name, once each."""
    if request.param == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = load_family(name, request.param)
        return loaded[name]

    yield get
    for model, _ in loaded.values():
        model.close()


def conditions_of(name):
    return GOOD if name == "hibiki" else None


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens(family, name):
    model, expected = family(name)
    model.open(0, GREEDY, conditions_of(name))
    text, codes = said(model, 0, expected["cfg1.fed"])
    np.testing.assert_array_equal(text, expected["cfg1.text"])
    np.testing.assert_array_equal(codes, expected["cfg1.audio"])


@pytest.mark.parametrize("name", NAMES)
def test_beside_another_session_and_after_a_move(family, name):
    """A neighbour with other options, a state that goes to another slot, and prefilling in pieces."""
    model, expected = family(name)
    fed = expected["cfg1.fed"]
    model.open(0, GREEDY, conditions_of(name))
    model.open(1, attrs.evolve(GREEDY, temperature=0.8, text_temperature=0.7, seed=3, greedy=False))
    for column in range(17):
        said(model, 0, fed[:, column : column + 1])
        said(model, 1, fed[::-1, column : column + 1].copy())
    state = model.export(0)
    state = attrs.evolve(state, tensors=dict(state.tensors))
    finish(model.restore(1, state))
    text, codes = said(model, 1, fed[:, 17:])
    np.testing.assert_array_equal(text, expected["cfg1.text"])
    np.testing.assert_array_equal(codes, expected["cfg1.audio"])


def test_shared_keys_and_values_are_held_once(family):
    """Also a state of a version that held them as often as they are used goes on."""
    model, expected = family("hibiki-zero")
    fed = expected["cfg1.fed"]
    model.open(0, GREEDY)
    said(model, 0, fed[:, :9])
    state = model.export(0)
    tensors = dict(state.tensors)
    caches = [name for name in tensors if name.startswith("lm.") and ".cache." in name]
    assert caches
    assert {tensors[name].shape[-3] for name in caches} == {HEADS // SHARING}
    if state.metadata["backend"] == "torch":  # MLX has always held them once
        tensors |= {name: np.repeat(tensors[name], SHARING, axis=-3) for name in caches}
    finish(model.restore(1, attrs.evolve(state, tensors=tensors)))
    text, codes = said(model, 1, fed[:, 9:])
    np.testing.assert_array_equal(text, expected["cfg1.text"])
    np.testing.assert_array_equal(codes, expected["cfg1.audio"])
    unlike = np.random.default_rng(0).normal(size=(2, HEADS, *tensors[caches[0]].shape[-2:])).astype(np.float32)
    with pytest.raises(StateError, match="export it anew"):
        finish(model.restore(1, attrs.evolve(state, tensors=tensors | {caches[0]: unlike})))


def test_conditions(family):
    model, expected = family("hibiki")
    assert "very_bad" in model.spec.conditions["description"]
    model.open(0, GREEDY, Conditions(words={"description": "very_bad"}))
    text, _ = said(model, 0, expected["cfg1.fed"])
    assert (text != expected["cfg1.text"]).any()
    model.open(0, GREEDY)  # the learnt padding
    with pytest.raises(UsageError, match=r"description is 'fine'; this model knows very_bad, bad"):
        model.open(0, GREEDY, Conditions(words={"description": "fine"}))
    with pytest.raises(UsageError, match="no condition 'mood'"):
        model.open(0, GREEDY, Conditions(words={"mood": "good"}))
    plain, _ = family("hibiki-zero")
    with pytest.raises(UsageError, match="takes no conditions"):
        plain.open(0, GREEDY, GOOD)


@pytest.mark.parametrize("name", NAMES)
def test_the_end_of_the_source(family, name):
    """The step that tells it hears nothing: the codec goes on from the last frame before."""
    model, _ = family(name)
    spec = model.spec
    model.open(0, GREEDY, conditions_of(name))
    pcm = np.zeros((spec.capacity, spec.frame_size), np.float32)
    active = np.array([True, False])
    random = np.random.default_rng(0)
    for _ in range(4):
        pcm[0] = random.normal(0, 0.1, spec.frame_size)
        model.step(pcm, active)
    heard = encoder_state(model, 0)
    assert heard
    model.end_source(0)
    model.step(pcm, active)
    after = encoder_state(model, 0)
    for key, tensor in heard.items():
        np.testing.assert_array_equal(after[key], tensor, err_msg=key)
    model.step(pcm, active)
    ends = model.slots[0].log.columns[:, 1 + spec.agent_streams :]
    assert (ends[4] == spec.audio_vocabulary).all()
    assert (ends[:4] < spec.audio_vocabulary).all()
    finish(model.restore(1, attrs.evolve(model.export(0), tensors=dict(model.export(0).tensors))))
