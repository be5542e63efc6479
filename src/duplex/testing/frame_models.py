"""The conformance suite for implementations of :class:`duplex.frame_model.FrameModel`."""

# ruff: noqa: S101 -- a failed check is an AssertionError, as in any test

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import StateError, UsageError
from duplex.frame_model import UNGENERATED, FrameModel, SessionState, split_columns
from duplex.options import SessionOptions
from duplex.testing.damaged_states import check_damaged_states
from duplex.testing.interrupted_restores import check_interrupted_restores
from duplex.testing.scored_tokens import check_scoring
from duplex.testing.tracks import (
    OPTIONS,
    Make,
    Track,
    expect_same,
    loaded,
    prefilled,
    random_tokens,
    read_state,
    restore,
    run_conversation,
    run_frames,
    speech,
)

__all__ = ["check_frame_model"]

Float32 = NDArray[np.float32]

_OTHER = SessionOptions(temperature=0.0, text_temperature=1.0, top_k=0, text_top_k=3, seed=1)
_AHEAD = 6


def check_frame_model(make: Make, *, frames: int = 10, tolerance: float = 1e-4) -> None:
    """Run the conformance suite on an implementation of :class:`~duplex.frame_model.FrameModel`.

    ``make(capacity)`` loads the model with so many slots; the suite closes what it makes, at most three at a time.
    Tokens must come out exactly equal wherever the same conversation runs, so make the model deterministic; audio may
    differ by ``tolerance``. ``frames`` is the length of the conversations: a few hundred model steps are run in all.

        def test_my_backend():
            check_frame_model(lambda capacity: MyFrameModel(sessions=capacity))

    :raises AssertionError: with a sentence that says what was wrong
    """
    with loaded(make, 1) as one, loaded(make, 3) as three:
        _check_spec(one, 1)
        _check_spec(three, 3)
        heard = speech(one.spec, frames)
        _check_codec(one, heard)
        _check_shapes(one)
        alone = run_conversation(one, 0, heard)
        _check_track(one, alone, heard)
        expect_same(alone, run_conversation(one, 0, heard), tolerance, "opened again in the same slot")
        for slot in range(3):
            expect_same(alone, run_conversation(three, slot, heard), tolerance, f"alone in slot {slot} of 3")
            expect_same(
                alone, _beside_neighbours(three, slot, heard), tolerance, f"in slot {slot}, beside busy neighbours"
            )
        _check_idle(three, heard)
        _check_poison(three, alone, heard, tolerance)
        _check_states(make, three, alone, heard, tolerance)
        _check_prefill(three, alone, heard, tolerance)
        check_scoring(three, heard)


def _beside_neighbours(model: FrameModel, slot: int, heard: Float32) -> Track:
    """Hold a conversation while the other slots start, stop and start again, and sometimes have a frame alone."""
    random = np.random.default_rng(slot)
    others = [other for other in range(model.spec.capacity) if other != slot]
    for other in others:
        model.open(other, _OTHER)
    model.open(slot, OPTIONS)
    track, position = Track(), 0
    while position < len(heard):
        pcm = random.normal(0, 0.2, (model.spec.capacity, model.spec.frame_size)).astype(np.float32)
        active = random.random(model.spec.capacity) < 0.6  # noqa: PLR2004 -- more often than not
        for other in others:
            if random.random() < 0.2:  # noqa: PLR2004 -- now and then
                model.open(other, attrs.evolve(_OTHER, seed=position))
        pcm[slot] = heard[position]
        track.add(result := model.step(pcm, active), slot)
        assert active[slot] or not result.valid[slot], f"slot {slot} had no frame, but its row of the result is valid"
        position += int(active[slot])
    return track


def _check_spec(model: FrameModel, capacity: int) -> None:
    spec, codec = model.spec, model.codec.spec
    assert spec.capacity == capacity, f"{capacity} slots were asked for, but spec.capacity is {spec.capacity}"
    assert len(spec.delays) == spec.streams, f"spec.delays has {len(spec.delays)} entries for {spec.streams} streams"
    assert min(spec.delays) >= 0, f"spec.delays are {spec.delays}; a delay is 0 or more"
    assert spec.text_streams == 1, f"spec.text_streams is {spec.text_streams}; a step result has room for 1"
    assert spec.user_streams >= 1, "spec.user_streams is 0; the model must hear something"
    assert spec.agent_streams >= 0, f"spec.agent_streams is {spec.agent_streams}; give 0 or more"
    assert spec.context >= 1, f"spec.context is {spec.context} frames; give 1 or more"
    for name in ("sample_rate", "frame_size"):
        ours, theirs = getattr(spec, name), getattr(codec, name)
        assert ours == theirs > 0, f"spec.{name} is {ours}, but the codec's is {theirs}"
    most = max(spec.agent_streams, spec.user_streams)
    assert codec.codebooks >= most, f"the codec has {codec.codebooks} codebooks, but the model uses {most}"
    assert codec.vocabulary == spec.audio_vocabulary, (
        f"spec.audio_vocabulary is {spec.audio_vocabulary}, but the codec's vocabulary is {codec.vocabulary}"
    )
    for name in ("text_padding", "text_end_of_padding"):
        token = getattr(spec, name)
        assert 0 <= token < spec.text_vocabulary, f"spec.{name} is {token}, outside the text vocabulary"


def _check_codec(model: FrameModel, heard: Float32) -> None:
    codec, spec = model.codec, model.codec.spec
    pcm = heard.reshape(-1)
    codes = codec.encode(pcm)
    shape = (spec.codebooks, len(heard))
    assert codes.shape == shape, f"codec.encode gave the shape {codes.shape}, not {shape}"
    assert codes.dtype == np.int64, f"codec.encode gave {codes.dtype}, not int64"
    assert (codes >= 0).all(), "codec.encode gave a code below 0"
    assert (codes < spec.vocabulary).all(), f"codec.encode gave a code above {spec.vocabulary - 1}"
    padded = codec.encode(pcm[: spec.frame_size + 1]).shape[1]
    assert padded == 2, f"codec.encode made {padded} frames of one frame and one sample, not 2"  # noqa: PLR2004
    stream = codec.stream()
    streamed = np.concatenate([stream.encode(frame) for frame in heard], axis=1)
    assert (streamed == codes).all(), "codec.encode differs from codec.stream(), frame by frame"
    decoded = codec.decode(codes)
    assert decoded.shape == pcm.shape, f"codec.decode gave the shape {decoded.shape}, not {pcm.shape}"
    assert decoded.dtype == np.float32, f"codec.decode gave {decoded.dtype}, not float32"
    pieces = np.concatenate([stream.decode(piece) for piece in split_columns(codes, 1)])
    assert np.allclose(pieces, decoded, atol=1e-4), "codec.decode differs from codec.stream(), frame by frame"


def _check_shapes(model: FrameModel) -> None:
    spec = model.spec
    model.open(0, OPTIONS)
    result = model.step(np.zeros((1, spec.frame_size), np.float32), np.zeros(1, np.bool_))
    for name, dtype, shape in (
        ("valid", np.bool_, (1,)),
        ("time_step", np.int64, (1,)),
        ("pcm", np.float32, (1, spec.frame_size)),
        ("text", np.int64, (1,)),
        ("agent", np.int64, (1, spec.agent_streams)),
        ("user", np.int64, (1, spec.user_streams)),
    ):
        value = getattr(result, name)
        assert value.shape == shape, f"result.{name} has the shape {value.shape}, not {shape} (slots first)"
        assert value.dtype == dtype, f"result.{name} is {value.dtype}, not {np.dtype(dtype)}"
    assert not result.valid.any(), "a step without active slots gave a valid row"


def _check_track(model: FrameModel, track: Track, heard: Float32) -> None:
    spec = model.spec
    expected = list(range(len(heard) - spec.latency_frames))
    assert track.time_steps == expected, (
        f"{len(heard)} frames with a maximum delay of {max(spec.delays)} must give the time steps 0 to "
        f"{len(expected) - 1}, the first with frame {spec.latency_frames}; they gave {track.time_steps}"
    )
    tokens = np.stack(track.tokens)
    limits = [spec.text_vocabulary, *[spec.audio_vocabulary] * (spec.streams - 1)]
    assert (tokens >= 0).all(), "a valid row has a token below 0"
    assert (tokens < limits).all(), "a valid row has a token outside its vocabulary"
    codes = model.codec.encode(heard.reshape(-1))[: spec.user_streams, : len(expected)]
    heard_codes = tokens[:, 1 + spec.agent_streams :].T
    assert np.array_equal(heard_codes, codes), (
        "the user's tokens differ from the codec's codes of the same frames; each frame is heard once, in its time step"
    )
    assert np.isfinite(track.pcm).all(), "the agent's audio has NaN or infinity"


def _check_idle(model: FrameModel, heard: Float32) -> None:
    """Check that slots without a frame keep their state exactly."""
    run_conversation(model, 1, heard[:4])
    before = read_state(model.export(1))
    model.open(0, _OTHER)
    model.open(2, _OTHER)
    pcm = np.repeat(heard[-1][None], 3, axis=0)
    for _ in range(4):
        model.step(pcm, np.array([True, False, True]))
    model.prefill(0, random_tokens(model.spec, 3))
    after = read_state(model.export(1))
    assert before.tensors.keys() == after.tensors.keys(), "export gave other tensors for a slot that was not stepped"
    for name, tensor in before.tensors.items():
        same = np.array_equal(tensor, after.tensors[name], equal_nan=tensor.dtype.kind == "f")
        assert same, f"tensor {name!r} of a slot changed while only its neighbours were stepped"


def _check_poison(model: FrameModel, alone: Track, heard: Float32, tolerance: float) -> None:
    """Check that a frame of NaN hurts its own conversation at most."""
    broken = np.full((3, model.spec.frame_size), np.nan, np.float32)
    model.open(0, OPTIONS)
    for slot in (1, 2):
        model.open(slot, _OTHER)
    track = Track()
    for position, frame in enumerate(heard):
        broken[0] = frame
        track.add(model.step(broken, np.array([True, position % 2 == 0, False])), 0)
    expect_same(alone, track, tolerance, "beside neighbours that were fed NaN")
    for slot in (1, 2):
        expect_same(
            alone, run_conversation(model, slot, heard), tolerance, "in a slot whose last conversation was fed NaN"
        )


def _check_states(make: Make, model: FrameModel, alone: Track, heard: Float32, tolerance: float) -> None:
    for taken in (0, 1, len(heard) // 2):
        model.open(1, OPTIONS)
        track = run_frames(model, 1, heard[:taken], Track())
        state = read_state(model.export(1))
        stayed = run_frames(model, 1, heard[taken:], track.copy())
        expect_same(alone, stayed, tolerance, f"going on after an export at frame {taken}")
        with loaded(make, 2) as elsewhere:
            restore(elsewhere, 1, state)
            moved = run_frames(elsewhere, 1, heard[taken:], track)
        expect_same(alone, moved, tolerance, f"restored in another model at frame {taken}")
    state = read_state(model.export(1))
    for name, broken in (
        ("without its tensors", SessionState(metadata=state.metadata, tensors={})),
        ("without its metadata", SessionState(metadata={}, tensors=state.tensors)),
    ):
        try:
            restore(model, 2, broken)
        except StateError:
            continue
        raise AssertionError(f"restoring a state {name} raised no StateError")
    check_interrupted_restores(model, alone, heard, tolerance)
    check_damaged_states(model, state, alone, heard)


def _check_prefill(model: FrameModel, alone: Track, heard: Float32, tolerance: float) -> None:
    spec = model.spec
    ahead = heard[: min(_AHEAD, len(heard))]
    foreign = random_tokens(spec, 7)
    whole = prefilled(model, foreign, 7, ahead)
    first = foreign.shape[1] - spec.latency_frames
    assert whole.time_steps[:1] == [first], (
        f"after a prompt of {foreign.shape[1]} columns the first time step must be {first}, not {whole.time_steps[:1]}"
    )
    for columns in (1, 2, 5):
        pieces = prefilled(model, foreign, columns, ahead)
        expect_same(whole, pieces, tolerance, f"a prompt in pieces of {columns} columns, not in one")
    own = np.stack(alone.tokens, axis=1)
    _expect_refused(model, own)
    left = own.copy()
    left[: 1 + spec.agent_streams] = UNGENERATED
    chosen = prefilled(model, left, own.shape[1], ahead)
    known = prefilled(model, own, own.shape[1], ahead)
    expect_same(known, chosen, tolerance, "a prompt of the model's own tokens, left for it to choose")
    _expect_slot_free(model, heard)


def _expect_refused(model: FrameModel, tokens: NDArray[np.int64]) -> None:
    """Check that a prompt with a token that no vocabulary has is refused."""
    for value in (UNGENERATED - 1, 2**30):
        model.open(2, OPTIONS)
        try:
            model.prefill(2, np.where(tokens == tokens[0, 0], value, tokens))
        except UsageError:
            continue
        raise AssertionError(f"a prompt with the token {value} raised no UsageError")


def _expect_slot_free(model: FrameModel, heard: Float32) -> None:
    """Check that a prompt leaves nothing behind for the slot's next conversation."""
    fresh = run_conversation(model, 2, heard)
    assert fresh.time_steps[0] == 0, "a slot opened after a prompt does not begin at time step 0"
