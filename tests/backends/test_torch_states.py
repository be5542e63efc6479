"""A conversation on the torch backend is the same moved to another slot or process, rebuilt, and after a prompt."""

import pickle
import subprocess
import sys

import attrs
import numpy as np
import pytest
from slots_support import BUSY, FRAMES, alone, eight  # noqa: F401 -- fixtures

from duplex.backends.shared import state_checks
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.backends.torch import snapshot
from duplex.errors import StateError
from duplex.frame_model import UNGENERATED, SessionState
from duplex.testing.tracks import restore


def taken(state):
    """A state as plain data, all of its tensors read."""
    return SessionState(metadata=dict(state.metadata), tensors={name: state.tensors[name] for name in state.tensors})


@pytest.mark.parametrize("at", [0, 1, 17, 33])
def test_moved_to_another_slot(checkpoint_reference, alone, run, sampled, eight, opened, at):
    frames = checkpoint_reference.frames[:FRAMES]
    first = run(eight, 1, sampled).hear(frames[:at])
    state = taken(eight.export(1))
    elsewhere = opened(checkpoint_reference.load(sessions=3))
    for slot in range(3):
        elsewhere.open(slot, BUSY)
    restore(elsewhere, 2, state)
    moved = run(elsewhere, 2, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(moved, name).extend(getattr(first, name))
    assert moved.hear(frames[at:]).flush() == alone
    assert first.hear(frames[at:]).flush() == alone


RESUME = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import conftest
reference = conftest.reference(sys.argv[2])
with open(sys.argv[3], "rb") as file:
    state, at = pickle.load(file)
model = reference.load(sessions=2)
for _ in model.restore(1, conftest.SessionState(**state)):
    pass
held = conftest.Run(model, 1, opened=True).hear(reference.frames[at:int(sys.argv[4])]).flush()
with open(sys.argv[5], "wb") as file:
    pickle.dump({name: getattr(held, name) for name in ("text", "agent", "user", "pcm", "times")}, file)
""".replace("conftest.SessionState", "__import__('duplex').SessionState")


def test_moved_to_another_process(checkpoint_reference, alone, run, sampled, eight, tmp_path):
    frames, at = checkpoint_reference.frames[:FRAMES], 21
    first = run(eight, 4, sampled).hear(frames[:at])
    state = attrs.asdict(taken(eight.export(4)), recurse=False)
    given, answer = tmp_path / "state", tmp_path / "answer"
    given.write_bytes(pickle.dumps((state, at)))
    folder = str(checkpoint_reference.folder.parents[2])
    command = [sys.executable, "-c", RESUME, folder, checkpoint_reference.name, str(given), str(FRAMES), str(answer)]
    subprocess.run(command, check=True, timeout=120)
    for name, values in pickle.loads(answer.read_bytes()).items():  # noqa: S301 -- written a moment ago
        getattr(first, name).extend(values)
    assert first == alone


@pytest.mark.parametrize("at", [1, 2, 22])
def test_rebuilt_from_the_token_log(checkpoint_reference, alone, run, sampled, eight, opened, at):
    """Where the cache cannot be taken over, the tokens are prefilled: same tokens in float32."""
    frames = checkpoint_reference.frames[:FRAMES]
    first = run(eight, 0, sampled).hear(frames[:at])
    state = taken(eight.export(0))
    foreign = SessionState(metadata={**state.metadata, "backend": "mlx"}, tensors=state.tensors)
    elsewhere = opened(checkpoint_reference.load())
    restore(elsewhere, 0, foreign)
    rebuilt = run(elsewhere, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(rebuilt, name).extend(getattr(first, name))
    rebuilt.hear(frames[at:]).flush()
    assert rebuilt.times == alone.times
    assert np.array_equal(rebuilt.tokens, alone.tokens)
    np.testing.assert_allclose(rebuilt.pcm, alone.pcm, atol=1e-4)
    columns = elsewhere.slots[0].log.columns.T
    assert np.array_equal(columns, rebuilt.tokens)


def pieces_beside_a_neighbour(model, state, held, frames):
    """Restore slot 1 while the neighbour, ``held``, hears a frame after every piece; return how many pieces it took."""
    count, frames = 0, list(frames)
    for _ in model.restore(1, state):
        held.hear(frames[count : count + 1])
        count += 1
    held.hear(frames[count:])
    return count


def test_rebuilt_in_pieces_beside_a_neighbour(checkpoint_reference, alone, run, sampled, eight, opened, monkeypatch):
    """No call takes more than a piece, also with a log of several spans, and both sides stay the same."""
    monkeypatch.setattr(state_checks, "SPAN", 48)
    frames, at = checkpoint_reference.frames, 66
    first = run(eight, 0, sampled).hear(frames[:at])
    state = taken(eight.export(0))
    foreign = SessionState(metadata={**state.metadata, "backend": "mlx"}, tensors=state.tensors)
    model = opened(checkpoint_reference.load(sessions=2))
    columns, temporal = [], model._lm.temporal

    def listen(tokens, call):
        columns.append(tokens.shape[-1])
        return temporal(tokens, call)

    model.steps.recorded, model._lm.temporal = None, listen
    neighbour = run(model, 0, sampled)
    columns.clear()
    count = pieces_beside_a_neighbour(model, foreign, neighbour, frames[:FRAMES])
    assert count > at / LONGEST_RUN + 1
    assert max(columns) <= LONGEST_RUN
    assert sum(columns) >= at + FRAMES
    assert neighbour.flush() == alone
    rebuilt = run(model, 1, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(rebuilt, name).extend(getattr(first, name))
    whole = first.hear(frames[at:]).flush()
    rebuilt.hear(frames[at:]).flush()
    assert rebuilt.times == whole.times
    assert np.array_equal(rebuilt.tokens, whole.tokens)


def test_restored_exactly_in_pieces(checkpoint_reference, alone, run, sampled, eight, opened, monkeypatch):
    """Tensor by tensor, as a large one is."""
    monkeypatch.setattr(snapshot, "RESTORE_PIECE", 1)
    frames, at = checkpoint_reference.frames[:FRAMES], 20
    first = run(eight, 0, sampled).hear(frames[:at])
    state = taken(eight.export(0))
    model = opened(checkpoint_reference.load(sessions=2))
    neighbour = run(model, 0, sampled)
    assert pieces_beside_a_neighbour(model, state, neighbour, frames) > len(model.state.tensors) / 2
    assert neighbour.flush() == alone
    moved = run(model, 1, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(moved, name).extend(getattr(first, name))
    assert moved.hear(frames[at:]).flush() == alone


def test_rebuilt_in_another_dtype(checkpoint_reference, alone, run, sampled, eight, opened):
    frames, at = checkpoint_reference.frames[:FRAMES], 20
    first = run(eight, 0, sampled).hear(frames[:at])
    half = opened(checkpoint_reference.load(dtype="bfloat16"))
    restore(half, 0, taken(eight.export(0)))
    held = run(half, opened=True).hear(frames[at:]).flush()
    latency = half.spec.latency_frames
    assert held.times == alone.times[at - latency :]
    assert np.array_equal(held.user, alone.user[at - latency :])
    assert held.text[0] == alone.text[at - latency]
    assert np.isfinite(held.pcm).all()
    assert len(first.text) == at - latency
    # and exactly, within one dtype
    again = opened(checkpoint_reference.load(dtype="bfloat16", sessions=2))
    half.open(0, sampled)
    whole = run(half, options=sampled).hear(frames).flush()
    begun = run(half, options=sampled).hear(frames[:at])
    restore(again, 1, taken(half.export(0)))
    moved = run(again, 1, opened=True)
    for name in ("text", "agent", "user", "pcm", "times"):
        getattr(moved, name).extend(getattr(begun, name))
    assert moved.hear(frames[at:]).flush() == whole


def test_after_the_rings_have_wrapped(checkpoint_reference, run, sampled, eight, opened):
    """80 frames are several times the reference models' contexts."""
    frames = checkpoint_reference.frames
    whole = run(eight, 0, sampled).hear(frames).flush()
    held = run(eight, 1, sampled).hear(frames[:66])
    elsewhere = opened(checkpoint_reference.load(sessions=2))
    restore(elsewhere, 1, taken(eight.export(1)))
    held.model = elsewhere
    assert held.hear(frames[66:]).flush() == whole


def test_states_that_do_not_fit(small, delay2, run, sampled, opened):
    model = opened(small.load(sessions=2))
    run(model, 0, sampled).hear(small.frames[:3])
    state = taken(model.export(0))
    other = opened(delay2.load())
    with pytest.raises(StateError, match="another checkpoint"):
        restore(other, 0, state)
    for metadata in ({}, {"version": "99"}, {k: v for k, v in state.metadata.items() if k != "options"}):
        with pytest.raises(StateError):
            restore(model, 1, SessionState(metadata=metadata, tensors=state.tensors))
    for name in ("log", "lm.tokens", "lm.transformer.ring.cache.0"):
        tensors = {**state.tensors}
        del tensors[name]
        with pytest.raises(StateError, match=r"damaged|wrong"):
            restore(model, 1, SessionState(metadata=state.metadata, tensors=tensors))
    cut = {**state.tensors, "lm.transformer.ring.cache.0": state.tensors["lm.transformer.ring.cache.0"][..., :1]}
    with pytest.raises(StateError, match="damaged"):
        restore(model, 1, SessionState(metadata=state.metadata, tensors=cut))
    # the slot is none the worse
    restore(model, 1, state)
    run(model, 1, opened=True).hear(small.frames[3:5])


def test_a_prompt_in_pieces(checkpoint_reference, run, sampled, eight):
    """Any tokens, in pieces of any size, also where delays reach over a piece's end."""
    spec = eight.spec
    random = np.random.default_rng(0)
    sizes = [spec.text_vocabulary] + [spec.audio_vocabulary] * (spec.streams - 1)
    tokens = np.stack([random.integers(0, size, 45) for size in sizes])
    found = []
    for columns in (45, 1, 4, 32):
        eight.open(1, sampled)
        for start in range(0, 45, columns):
            eight.prefill(1, tokens[:, start : start + columns])
        assert np.array_equal(eight.slots[1].log.columns.T, tokens[:, : 45 - spec.latency_frames])
        found.append(run(eight, 1, opened=True).hear(checkpoint_reference.frames[:6]))
    assert all(np.array_equal(each.tokens, found[0].tokens) for each in found)


def test_a_prompt_that_leaves_the_agent_free(alone, sampled, eight):
    """A prompt of the user's codes alone makes the agent say what it said when it heard them."""
    tokens = alone.tokens.copy()
    tokens[: 1 + eight.spec.agent_streams] = UNGENERATED
    eight.open(1, sampled)
    for start in range(0, FRAMES, 7):
        eight.prefill(1, tokens[:, start : start + 7])
    columns = eight.slots[1].log.columns.T
    assert np.array_equal(columns, alone.tokens[:, : columns.shape[1]])


def test_a_short_past_is_restored_in_few_pieces(checkpoint_reference, run, sampled, eight, monkeypatch):
    """However much room its cache has: neighbours wait for what is put into it."""
    run(eight, 0, sampled).hear(checkpoint_reference.frames[:2])
    state = taken(eight.export(0))
    filled = sum(np.asarray(tensor).nbytes for tensor in state.tensors.values())
    assert filled < sum(tensor[0].nbytes for tensor in eight.state.tensors.values()) / 2
    counts = []
    for piece in (filled, 1 << 40):
        monkeypatch.setattr(snapshot, "RESTORE_PIECE", piece)
        counts.append(sum(1 for _ in eight.restore(1, state)))
    assert counts[0] == counts[1]
