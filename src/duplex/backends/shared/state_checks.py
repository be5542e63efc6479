"""Checks of a state that came from outside, before anything of it is put where a step reads it.

A step indexes tables with tokens and rings with counters, for all conversations of its batch at once: an index out of
range would end those of the others too. So each number is compared with what the model's spec and the state's other
parts allow, and what can be computed is not taken from the state at all. A log may have the columns of days: it is
checked, and handed on, a span at a time.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared.conditions import checked_conditions
from duplex.backends.shared.slots import LONGEST_LIFE, Slot
from duplex.backends.shared.snapshots import AHEAD, LANGUAGE_MODEL, LOG
from duplex.errors import StateError
from duplex.frame_model import UNGENERATED, ZERO, Conditions, ModelSpec, SessionState
from duplex.options import SAMPLING, SessionOptions
from duplex.parsing import parse_integer, parse_json

__all__ = ["SPAN", "CheckedState", "check_finite", "checked_state"]

SPAN = 1 << 14
"""Time steps of a log that are looked at in one piece, 22 minutes: a millisecond or two."""

Int64 = NDArray[np.int64]


@attrs.frozen(eq=False)
class CheckedState:
    """The parts of a state that the host keeps."""

    options: SessionOptions
    frames: int
    log: NDArray[np.signedinteger[Any]]
    """``[steps, streams]``, of any width; for :meth:`check_log` to check"""
    ring: Int64
    """int64 ``[streams, ring_length]``"""
    ahead: tuple[int, Int64]
    embedded: int
    conditions: Conditions | None

    def check_log(self, spec: ModelSpec) -> Iterator[None]:
        """Check the log's tokens, in pieces.

        :raises ValueError: naming what is out of range
        """
        for start in range(0, len(self.log), SPAN):
            span = self.log[start : start + SPAN]
            spec.check_tokens(span.T.astype(np.int64))
            if span.min() < ZERO:
                raise ValueError("the log has time steps that are not complete")
            yield

    def known_tokens(self, spec: ModelSpec) -> Iterator[Int64]:
        """Yield all tokens of the session, int64 ``[streams, n]``, and at last what was chosen ahead."""
        for start in range(0, max(len(self.log), 1), SPAN):
            span = self.log[start : start + SPAN].T.astype(np.int64)
            last = start + SPAN >= len(self.log)
            yield np.concatenate([span, self._chosen_ahead(spec)], axis=1) if last else span

    def _chosen_ahead(self, spec: ModelSpec) -> Int64:
        steps, frames, delays = len(self.log), self.frames, spec.delays
        ahead = np.full((spec.streams, max(*delays, 1)), UNGENERATED, np.int64)
        user = 1 + spec.agent_streams
        for stream, delay in enumerate(delays):
            for column in range(ahead.shape[1]):
                time = steps + column
                known = time < frames if stream >= user else time + delay <= frames
                if known:
                    ahead[stream, column] = self.ring[stream, (time + delay) % self.ring.shape[1]]
        return ahead

    def put(self, slot: Slot, *, exact: bool) -> None:
        """Make a slot's host part that of the state; unless ``exact``, its log and frames come from prefilling."""
        slot.ahead = self.ahead
        slot.embedded = self.embedded
        if exact:
            slot.frames = self.frames
            slot.log.replace(self.log)


def checked_state(state: SessionState, spec: ModelSpec, positions: Mapping[str, int], *, exact: bool) -> CheckedState:
    """Return what the host keeps of a state, all of it but its log's tokens checked.

    ``positions`` says of each counter of a ring's positions how many a frame has. Unless ``exact``, the language
    model's tensors are another backend's, and only its ring of tokens is read.

    :raises ValueError: naming what is out of range
    :raises StateError: if it could only be taken over exactly
    """
    frames = parse_integer(state.metadata["frames"], 0, LONGEST_LIFE)
    embedded = parse_integer(state.metadata.get("embedded", "0"), 0, frames)
    if embedded and not exact:
        raise StateError(
            "the conversation began with a published voice, of which nobody knows the codes, so it can go on only with "
            f"the backend and dtype that it was exported from ({state.metadata['backend']}, {state.metadata['dtype']})"
        )
    log = _checked_integers(state.tensors, LOG, 2)
    if log.shape[1] != spec.streams:
        raise ValueError(f"its log has {log.shape[1]} streams, not {spec.streams}")
    if len(log) != max(delay_rules.time_step_of(frames, spec.delays), 0):
        raise ValueError(f"{frames} frames do not make a log of {len(log)} time steps")
    for name, per_frame in positions.items():
        if exact or not name.startswith(LANGUAGE_MODEL):
            _check_position(name, int(_integers(state.tensors, name, 0)), frames, per_frame)
    if exact and int(_integers(state.tensors, f"{LANGUAGE_MODEL}step", 0)) != frames + 1:
        raise ValueError(f"its steps are not those of {frames} frames")
    return CheckedState(
        _checked_options(state.metadata["options"]),
        frames,
        log,
        _checked_ring(state.tensors, frames, spec),
        _checked_ahead(state, frames, spec),
        embedded,
        checked_conditions(state.metadata.get("conditions", "null"), state.tensors),
    )


def _checked_options(text: str) -> SessionOptions:
    """Return the options that a state's JSON text holds, every one of them.

    :raises ValueError: if one is missing, unknown or out of range
    """
    values: Any = parse_json(text)
    options = SessionOptions(**values)
    if options.guidance is None:  # in states of before there was guidance
        options = attrs.evolve(options, guidance=1.0)
    missing = [name for name in SAMPLING if getattr(options, name) is None]
    if missing:
        raise ValueError(f"it has no option '{missing[0]}'")
    return options


def check_finite(name: str, *, finite: bool) -> None:
    """Refuse a tensor with NaN or infinity, which would spread through everything that is computed from it.

    :raises ValueError: unless it is finite
    """
    if not finite:
        raise ValueError(f"'{name}' has NaN or infinity")


def _checked_integers(
    tensors: Mapping[str, NDArray[np.generic]], name: str, dimensions: int
) -> NDArray[np.signedinteger[Any]]:
    array = np.asarray(tensors[name])
    if not np.issubdtype(array.dtype, np.signedinteger) or array.ndim != dimensions:
        raise ValueError(f"'{name}' is {array.dtype} {list(array.shape)}, not integers of {dimensions} dimensions")
    return cast("NDArray[np.signedinteger[Any]]", array)


def _integers(tensors: Mapping[str, NDArray[np.generic]], name: str, dimensions: int) -> Int64:
    return _checked_integers(tensors, name, dimensions).astype(np.int64)


def _check_position(name: str, position: int, frames: int, per_frame: int) -> None:
    """Check a ring's count: the language model has had the initial step and every frame, the codec no prompt."""
    if name.startswith(LANGUAGE_MODEL):
        good = position == frames + 1
    else:
        good = 0 <= position <= frames * per_frame and position % per_frame == 0
    if not good:
        raise ValueError(f"'{name}' is {position}, which {frames} frames do not make")


def _checked_ring(tensors: Mapping[str, NDArray[np.generic]], frames: int, spec: ModelSpec) -> Int64:
    """Return the ring of delayed tokens, after checking that what the next steps read has been written."""
    ring, length = _integers(tensors, f"{LANGUAGE_MODEL}tokens", 2), delay_rules.ring_length(spec.delays)
    spec.check_tokens(ring)
    if ring.shape[1] != length:
        raise ValueError(f"'{LANGUAGE_MODEL}tokens' holds {ring.shape[1]} indices, not {length}")
    user = 1 + spec.agent_streams
    for stream, delay in enumerate(spec.delays):
        newest = frames - 1 + delay if stream >= user else frames
        oldest = max(frames + 1 - max(*spec.delays, 1), 0) + delay  # of the time step that comes out next
        read = np.arange(min(oldest, max(frames, delay)), newest + 1)
        if (ring[stream, read % length] == UNGENERATED).any():
            raise ValueError(f"'{LANGUAGE_MODEL}tokens' lacks tokens of stream {stream} that the next step reads")
    return ring


def _checked_ahead(state: SessionState, frames: int, spec: ModelSpec) -> tuple[int, Int64]:
    index = parse_integer(state.metadata["ahead"], -1, frames + 1)
    ahead = _integers(state.tensors, AHEAD, 2)
    if ahead.size or index >= 0:
        spec.check_tokens(ahead)
    return index, ahead
