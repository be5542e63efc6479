"""A conversation on the torch backend is the same alone, in any slot, and beside any neighbours."""

import attrs
import numpy as np
import pytest
from slots_support import BUSY, FRAMES, alone, beside_neighbours, eight  # noqa: F401 -- fixtures


@pytest.fixture(scope="module")
def together(checkpoint_reference):
    """Not deterministic: all slots in one step."""
    model = checkpoint_reference.load(sessions=8, deterministic=False)
    yield model
    model.close()


def test_alone_twice(checkpoint_reference, alone, run, sampled, opened):
    again = run(opened(checkpoint_reference.load()), options=sampled)
    assert again.hear(checkpoint_reference.frames[:FRAMES]).flush() == alone


def test_another_seed_is_another_conversation(checkpoint_reference, alone, run, sampled, eight):
    other = run(eight, 0, attrs.evolve(sampled, seed=8)).hear(checkpoint_reference.frames[:FRAMES]).flush()
    assert other.times == alone.times
    assert not np.array_equal(other.text, alone.text)
    assert not np.array_equal(other.agent, alone.agent)
    assert np.array_equal(other.user, alone.user)


@pytest.mark.parametrize("slot", range(8))
def test_in_any_slot(checkpoint_reference, alone, run, sampled, eight, slot):
    assert run(eight, slot, sampled).hear(checkpoint_reference.frames[:FRAMES]).flush() == alone


@pytest.mark.parametrize("slot", [0, 3, 7])
def test_beside_neighbours(checkpoint_reference, alone, run, sampled, eight, slot):
    assert beside_neighbours(run, eight, slot, checkpoint_reference.frames[:FRAMES], sampled) == alone


@pytest.mark.parametrize("slot", [0, 5])
def test_beside_neighbours_in_one_step(checkpoint_reference, alone, run, sampled, together, slot):
    """Another step shape rounds otherwise, so tokens may differ where two scores are close: none does here."""
    held = beside_neighbours(run, together, slot, checkpoint_reference.frames[:FRAMES], sampled)
    assert held.times == alone.times
    assert np.array_equal(held.user, alone.user)
    assert np.array_equal(held.tokens, alone.tokens)
    np.testing.assert_allclose(held.pcm, alone.pcm, atol=1e-4)


@pytest.mark.parametrize("slot", [0, 6])
def test_logits_of_forced_tokens(checkpoint_reference, alone, run, sampled, together, opened, slot):
    """Teacher-forced, the scores of two step shapes differ by less than 1e-3."""
    tokens = alone.tokens
    found = []
    for model, place in ((opened(checkpoint_reference.load()), 0), (together, slot)):
        logits, forward = [], model._lm.forward

        def listen(*arguments, place=place, logits=logits, forward=forward, **keywords):
            step = forward(*arguments, **keywords)
            logits.append(step.text_logits[min(place, len(step.text_logits) - 1)].clone().numpy())
            return step

        for other in range(model.spec.capacity):
            model.open(other, BUSY)
        held = run(model, place, sampled)
        model.steps.recorded = None  # which would not call it
        model._lm.forward = listen
        try:
            for start in range(0, 20, 5):
                model.prefill(place, tokens[:, start : start + 5])
            for frame in checkpoint_reference.frames[:10]:
                pcm = np.repeat(frame[None], model.spec.capacity, axis=0)
                held.take(model.step(pcm, np.ones(model.spec.capacity, bool)))
        finally:
            model._lm.forward = forward
        found.append(np.stack(logits[-10:]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_nan_ends_with_its_conversation(checkpoint_reference, alone, run, sampled, together, eight):
    frames = checkpoint_reference.frames[:FRAMES]
    for model in (together, eight):
        for slot in range(8):
            model.open(slot, BUSY)
        held = run(model, 2, sampled)
        for frame in frames:
            pcm = np.full((8, 1920), np.nan, np.float32)
            pcm[2] = frame
            held.take(model.step(pcm, np.array([True, True, True, False, True, False, True, True])))
        held.flush()
        for slot in (1, 3, 7):
            held_again = run(model, slot, sampled).hear(frames).flush()
            assert np.array_equal(held_again.tokens, alone.tokens)
            assert np.isfinite(held_again.pcm).all()
        assert np.array_equal(held.tokens, alone.tokens)
        assert np.isfinite(held.pcm).all()
