"""Guidance on the torch backend: a second row of every slot, which its session's logits are led away from."""

import attrs
import numpy as np
import pytest
from family_support import GREEDY, load_family, said

from duplex.backends.shared.pieces import finish
from duplex.errors import UsageError
from duplex.frame_model import Conditions

CONDITIONS = Conditions(words={"description": "very_good"}, null=Conditions(words={"description": "very_bad"}))
GUIDED = attrs.evolve(GREEDY, guidance=3.0)
FRAMES = 30


@pytest.fixture(scope="module")
def guided():
    model, expected = load_family("hibiki", "torch", guidance=True, sessions=3)
    yield model, expected
    model.close()


def test_tokens_of_the_published_program(guided):
    model, expected = guided
    model.open(0, GUIDED, CONDITIONS)
    text, codes = said(model, 0, expected["cfg3.fed"])
    np.testing.assert_array_equal(text, expected["cfg3.text"])
    np.testing.assert_array_equal(codes, expected["cfg3.audio"])


def test_a_coefficient_of_one_is_no_guidance(guided):
    model, expected = guided
    model.open(0, attrs.evolve(GREEDY, guidance=1.0), CONDITIONS)
    text, codes = said(model, 0, expected["cfg1.fed"])
    np.testing.assert_array_equal(text, expected["cfg1.text"])
    np.testing.assert_array_equal(codes, expected["cfg1.audio"])


def heard(model, slot, pcm, beside=()):
    """Step a slot, and others beside it; return its tokens ``[frames, 1 + agent_streams]``."""
    active = np.isin(np.arange(model.spec.capacity), [slot, *beside])
    found = []
    for frame in pcm:
        result = model.step(np.broadcast_to(frame, (model.spec.capacity, len(frame))).copy(), active)
        found.append([result.text[slot], *result.agent[slot]])
    return np.array(found)


@pytest.fixture(scope="module")
def alone(guided):
    model, _ = guided
    pcm = np.random.default_rng(0).normal(0, 0.1, (FRAMES, model.spec.frame_size)).astype(np.float32)
    model.open(0, GUIDED, CONDITIONS)
    return pcm, heard(model, 0, pcm)


@pytest.mark.parametrize(("slot", "beside"), [(1, (0, 2)), (2, (0,)), (0, (2,))])
def test_any_slot_beside_others(guided, alone, slot, beside):
    model, _ = guided
    pcm, tokens = alone
    for other in beside:
        model.open(other, attrs.evolve(GREEDY, guidance=1.0, temperature=0.9, greedy=False))
    model.open(slot, GUIDED, CONDITIONS)
    np.testing.assert_array_equal(heard(model, slot, pcm, beside), tokens)


def test_without_a_recorded_program(guided, alone):
    model, _ = guided
    pcm, tokens = alone
    recorded, model.steps.recorded = model.steps.recorded, None
    try:
        model.open(0, GUIDED, CONDITIONS)
        np.testing.assert_array_equal(heard(model, 0, pcm), tokens)
    finally:
        model.steps.recorded = recorded


@pytest.mark.parametrize("exact", [True, False])
def test_moved_to_another_slot(guided, alone, exact):
    """As it is, or, as from another dtype, rebuilt from the tokens: both rows."""
    model, _ = guided
    pcm, tokens = alone
    model.open(0, GUIDED, CONDITIONS)
    heard(model, 0, pcm[:20])
    state = model.export(0)
    metadata = state.metadata if exact else {**state.metadata, "dtype": "another"}
    finish(model.restore(2, attrs.evolve(state, metadata=metadata, tensors=dict(state.tensors))))
    np.testing.assert_array_equal(heard(model, 2, pcm[20:]), tokens[20:])


def test_a_model_that_was_loaded_without():
    model, _ = load_family("hibiki", "torch")
    with pytest.raises(UsageError, match=r"guidance is 3\.0, but the model was loaded without; use guidance=True"):
        model.open(0, GUIDED, CONDITIONS)
    model.close()
    with pytest.raises(UsageError, match="no conditions that guidance could strengthen"):
        load_family("hibiki-zero", "torch", guidance=True)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantized(quantize):
    model, expected = load_family("hibiki", "torch", guidance=True, quantize=quantize, cache_dtype="int8")
    model.open(0, GUIDED, CONDITIONS)
    text, _ = said(model, 0, expected["cfg3.fed"][:, :12])
    assert len(text) > 8
    model.close()
