"""What the records of the rings mean: a seat's commands one way, and what it gives the other.

Whatever has a fixed size a frame is a record. What has not (a state, an error) is a message, and its record says where
among the others it belongs.
"""

from collections.abc import Sequence
from enum import IntEnum

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.engine.outcomes import Finished, Outcome, Skipped
from duplex.frame_model import Frame, ModelSpec
from duplex.server.fronts.ring import RingShape, RingWriter

__all__ = ["Asked", "Given", "Told", "command_shape", "read_given", "told_shape", "write_given"]

Float32 = NDArray[np.float32]
COMMANDS_OF_SEAT, RESULTS_OF_SEAT, FEWEST = 4, 4, 64
"""Records for each place: a third of a second, which a process may be held up for without a loss."""
_FACTS = 9
"""Numbers of a record before the tokens."""


class Asked(IntEnum):
    """What a front wants of a seat; a record has the seat, results taken so far, and a number."""

    PUSH = 1
    SILENCE = 2
    SKIP = 3
    END_SOURCE = 4
    FINISH = 5
    EXPORT = 6
    TAKEN = 7


class Told(IntEnum):
    """What a record of a seat's tells."""

    FRAME = 1
    SKIPPED = 2
    FINISHED = 3
    MESSAGE = 4
    """Here belongs what comes as a message, of the number that it has."""
    NOTE = 5
    """Nothing but what every record has: whether the slot is ready, and how far it is."""


@attrs.frozen(eq=False)
class Given:
    """A record from a seat."""

    seat: int
    ready: bool
    translated: bool
    consumed: int
    """Frames that do not wait for the model any more."""
    outcome: Outcome | None
    message: int | None = None
    """The number of the message that belongs here."""


def command_shape(spec: ModelSpec) -> RingShape:
    """Return the ring of what a front wants of a model's seats."""
    return RingShape(max(FEWEST, COMMANDS_OF_SEAT * spec.capacity), 4, spec.frame_size)


def told_shape(spec: ModelSpec) -> RingShape:
    """Return the ring of what a model's seats give a front."""
    numbers = _FACTS + spec.agent_streams + spec.user_streams
    samples = 2 * spec.frame_size + spec.extra_heads * spec.extra_classes
    return RingShape(max(FEWEST, RESULTS_OF_SEAT * spec.capacity), numbers, samples)


def write_given(ring: RingWriter, spec: ModelSpec, given: Given) -> bool:
    """Write a record; return whether there was room for it."""
    state = (given.seat, given.ready, given.translated, given.consumed)
    match given.outcome:
        case Frame() as frame:
            place = _frames(spec, frame.at)
            facts = (Told.FRAME, *state, place, frame.inserted, frame.agent_pcm is not None, frame.text)
            numbers = (*facts, *frame.agent.tolist(), *frame.user.tolist())
            silence = np.zeros(spec.frame_size, np.float32) if frame.agent_pcm is None else frame.agent_pcm
            heads = () if frame.heads is None else (frame.heads.ravel(),)
            return ring.write(numbers, frame.user_pcm, silence, *heads)
        case Skipped(at, behind, seconds):
            return ring.write((Told.SKIPPED, *state, _frames(spec, at), _frames(spec, behind), _frames(spec, seconds)))
        case Finished():
            return ring.write((Told.FINISHED, *state))
        case _:
            kind = Told.NOTE if given.message is None else Told.MESSAGE
            return ring.write((kind, *state, given.message or 0))


def read_given(spec: ModelSpec, numbers: Sequence[int], samples: Float32) -> Given:
    """Return what :func:`write_given` has written."""
    kind, seat, ready, translated, consumed, first, second, third, text = numbers[:_FACTS]
    outcome: Outcome | None = None
    match kind:
        case Told.FRAME:
            outcome = _frame(spec, (first, second, third, text), numbers[_FACTS:], samples)
        case Told.SKIPPED:
            outcome = Skipped(*(spec.seconds(count) for count in (first, second, third)))
        case Told.FINISHED:
            outcome = Finished()
        case _:
            pass
    return Given(seat, bool(ready), bool(translated), consumed, outcome, first if kind == Told.MESSAGE else None)


def _frame(spec: ModelSpec, facts: tuple[int, int, int, int], tokens: Sequence[int], samples: Float32) -> Frame:
    place, inserted, voiced, text = facts
    size, heads = spec.frame_size, spec.extra_heads * spec.extra_classes
    codes = np.array(tokens, np.int64)
    return Frame(
        at=spec.seconds(place),
        user_pcm=samples[:size],
        agent_pcm=samples[size : 2 * size] if voiced else None,
        text=text,
        agent=codes[: spec.agent_streams],
        user=codes[spec.agent_streams : spec.agent_streams + spec.user_streams],
        heads=samples[2 * size : 2 * size + heads].reshape(spec.extra_heads, -1) if heads else None,
        inserted=bool(inserted),
    )


def _frames(spec: ModelSpec, seconds: float) -> int:
    """Return how many whole frames a time is; the reverse of :meth:`ModelSpec.seconds`."""
    return round(seconds * spec.sample_rate / spec.frame_size)
