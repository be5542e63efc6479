"""A conversation on the MLX backend is the same in any slot, beside any neighbours, moved, and taken up by torch."""

import numpy as np
import pytest
from slots_support import BUSY, beside_neighbours

from duplex.backends.shared import state_checks
from duplex.errors import StateError
from duplex.frame_model import SessionState
from duplex.testing.tracks import restore

pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")

snapshot = pytest.importorskip("duplex.backends.mlx.snapshot")
FRAMES = 34


@pytest.fixture(scope="module")
def alone(checkpoint_reference, run, sampled):
    model = checkpoint_reference.load(backend="mlx")
    held = run(model, options=sampled).hear(checkpoint_reference.frames[:FRAMES]).flush()
    model.close()
    return held


@pytest.fixture(scope="module")
def several(checkpoint_reference):
    model = checkpoint_reference.load(backend="mlx", sessions=5)
    yield model
    model.close()


@pytest.fixture(scope="module")
def together(checkpoint_reference):
    """Not deterministic: all slots in one step."""
    model = checkpoint_reference.load(backend="mlx", sessions=5, deterministic=False)
    yield model
    model.close()


def taken(state):
    """A state as plain data, all of its tensors read."""
    return SessionState(metadata=dict(state.metadata), tensors={name: state.tensors[name] for name in state.tensors})


def gone_on(run, first, model, slot, frames):
    """What the conversation ``first`` becomes when ``model`` goes on with it."""
    moved = run(model, slot, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(moved, name).extend(getattr(first, name))
    return moved.hear(frames).flush()


def test_alone_twice(checkpoint_reference, alone, run, sampled, opened):
    again = run(opened(checkpoint_reference.load(backend="mlx")), options=sampled)
    assert again.hear(checkpoint_reference.frames[:FRAMES]).flush() == alone


@pytest.mark.parametrize("slot", [0, 4])
def test_beside_neighbours(checkpoint_reference, alone, run, sampled, several, slot):
    assert beside_neighbours(run, several, slot, checkpoint_reference.frames[:FRAMES], sampled) == alone


@pytest.mark.parametrize("slot", [0, 3])
def test_beside_neighbours_in_one_step(checkpoint_reference, alone, run, sampled, together, slot):
    held = beside_neighbours(run, together, slot, checkpoint_reference.frames[:FRAMES], sampled)
    assert held.times == alone.times
    assert np.array_equal(held.tokens, alone.tokens)
    np.testing.assert_allclose(held.pcm, alone.pcm, atol=1e-4)


def test_only_active_slots_are_computed(small, run, sampled, opened):
    """The arrays of the others are the very same, not copies."""
    model = opened(small.load(backend="mlx", sessions=3))
    for slot in range(3):
        model.open(slot, BUSY)
    before = [dict(state) for state in model.state]
    run(model, 1, sampled).hear(small.frames[:2])
    for slot in (0, 2):
        assert all(model.state[slot][name] is array for name, array in before[slot].items())


@pytest.mark.parametrize("at", [0, 1, 17, 33])
def test_moved_to_another_slot(checkpoint_reference, alone, run, sampled, several, opened, at):
    frames = checkpoint_reference.frames[:FRAMES]
    first = run(several, 1, sampled).hear(frames[:at])
    state = taken(several.export(1))
    elsewhere = opened(checkpoint_reference.load(backend="mlx", sessions=2))
    elsewhere.open(0, BUSY)
    restore(elsewhere, 1, state)
    assert gone_on(run, first, elsewhere, 1, frames[at:]) == alone
    assert first.hear(frames[at:]).flush() == alone


def test_after_the_rings_have_wrapped(checkpoint_reference, run, sampled, several, opened):
    frames = checkpoint_reference.frames
    whole = run(several, 0, sampled).hear(frames).flush()
    held = run(several, 2, sampled).hear(frames[:66])
    elsewhere = opened(checkpoint_reference.load(backend="mlx"))
    restore(elsewhere, 0, taken(several.export(2)))
    assert gone_on(run, held, elsewhere, 0, frames[66:]) == whole


@pytest.mark.parametrize("origin", ["torch", "mlx"])
def test_restored_in_pieces_beside_a_neighbour(checkpoint_reference, alone, run, sampled, opened, monkeypatch, origin):
    """A log of several spans, or tensor by tensor: a neighbour hears a frame after every piece."""
    monkeypatch.setattr(state_checks, "SPAN", 16)
    monkeypatch.setattr(snapshot, "RESTORE_PIECE", 1)
    frames, at = list(checkpoint_reference.frames[:FRAMES]), 20
    begun = opened(checkpoint_reference.load(backend=origin))
    first = run(begun, 0, sampled).hear(frames[:at])
    elsewhere = opened(checkpoint_reference.load(backend="mlx", sessions=2))
    neighbour, count = run(elsewhere, 0, sampled), 0
    for _ in elsewhere.restore(1, taken(begun.export(0))):
        neighbour.hear(frames[count : count + 1])
        count += 1
    assert count > at / 16 + 1
    assert neighbour.hear(frames[count:]).flush() == alone
    moved = gone_on(run, first, elsewhere, 1, frames[at:])
    assert np.array_equal(moved.tokens, first.hear(frames[at:]).flush().tokens)


@pytest.mark.parametrize("at", [1, 2, 22, 60])
@pytest.mark.parametrize(("here", "there"), [("torch", "mlx"), ("mlx", "torch")])
def test_taken_up_by_the_other_backend(checkpoint_reference, run, sampled, opened, here, there, at):
    """The language model's past is rebuilt from the token log, Mimi's is taken over."""
    frames = checkpoint_reference.frames
    begun = opened(checkpoint_reference.load(backend=here))
    first = run(begun, 0, sampled).hear(frames[:at])
    state = taken(begun.export(0))
    assert state.metadata["backend"] == here
    elsewhere = opened(checkpoint_reference.load(backend=there, sessions=2))
    restore(elsewhere, 1, state)
    moved = gone_on(run, first, elsewhere, 1, frames[at:])
    stayed = first.hear(frames[at:]).flush()
    assert moved.times == stayed.times
    assert np.array_equal(moved.tokens, stayed.tokens)
    np.testing.assert_allclose(moved.pcm, stayed.pcm, atol=1e-3)
    assert np.array_equal(elsewhere.slots[1].log.columns.T, moved.tokens)


def test_within_bfloat16(checkpoint_reference, run, sampled, opened):
    frames, at = checkpoint_reference.frames[:FRAMES], 20
    half, again = (opened(checkpoint_reference.load(backend="mlx", dtype="bfloat16", sessions=n)) for n in (1, 2))
    whole = run(half, options=sampled).hear(frames).flush()
    begun = run(half, options=sampled).hear(frames[:at])
    restore(again, 1, taken(half.export(0)))
    assert gone_on(run, begun, again, 1, frames[at:]) == whole


def test_states_that_do_not_fit(small, delay2, run, sampled, opened):
    model = opened(small.load(backend="mlx", sessions=2))
    run(model, 0, sampled).hear(small.frames[:3])
    state = taken(model.export(0))
    with pytest.raises(StateError, match="another checkpoint"):
        restore(opened(delay2.load(backend="mlx")), 0, state)
    for metadata in ({}, {"version": "99"}, {k: v for k, v in state.metadata.items() if k != "options"}):
        with pytest.raises(StateError):
            restore(model, 1, SessionState(metadata=metadata, tensors=state.tensors))
    cache = "lm.transformer.ring.cache.0"
    for name in ("log", "lm.tokens", cache):
        tensors = {key: value for key, value in state.tensors.items() if key != name}
        with pytest.raises(StateError, match="damaged"):
            restore(model, 1, SessionState(metadata=state.metadata, tensors=tensors))
    cut = {**state.tensors, cache: state.tensors[cache][..., :1]}
    with pytest.raises(StateError, match="damaged"):
        restore(model, 1, SessionState(metadata=state.metadata, tensors=cut))
    restore(model, 1, state)
    run(model, 1, opened=True).hear(small.frames[3:5])
