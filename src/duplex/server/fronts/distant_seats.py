"""The seats of a model of another process, as conversations here know them: commands go, and results come, by rings.

A seat's rules (what waits, what is skipped, when it is held back) are those of :mod:`duplex.engine.seat`, in the
model's process. Here is what a conversation asks between two frames, and the results that it has not taken yet.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.engine.outcomes import Exported, Failed, Outcome
from duplex.engine.results import Observer
from duplex.engine.subscribers import Subscribers
from duplex.errors import ModelError
from duplex.frame_model import ModelSpec, SessionState
from duplex.options import SessionOptions
from duplex.prompting.prompt import Prompt
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.messages import Link, as_error
from duplex.server.fronts.records import Asked, Given, read_given
from duplex.server.fronts.ring import RingReader, RingWriter

__all__ = ["DistantSeat", "DistantSeating"]

Float32 = NDArray[np.float32]
UNACKNOWLEDGED = 4
"""Results that are taken before the model's process is told by a command of its own; each frame tells it as well."""
_ENDED = "the model's process has ended; start the conversation again"


class DistantSeat:
    """One conversation's seat; :class:`duplex.engine.seat.Seat` says what each method does."""

    def __init__(self, seating: "DistantSeating", number: int, notify: Callable[[], None]) -> None:
        self.number = number
        self.index: int = 0
        self.flush: int = 0
        self.ready: bool = False
        self.translated: bool = False
        self._seating = seating
        self._notify = notify
        self._pushed = 0
        """Frames that were given to the model, those of silence among them."""
        self._consumed = 0
        """As many of them as do not wait any more."""
        self._lost = 0
        """Frames that found the ring full."""
        self._results: deque[Outcome | int] = deque()
        """A number stands for the message that belongs there."""
        self._messages: dict[int, Outcome] = {}
        self._taken = 0
        """Results that have been taken: the seat is held back until they are."""
        self._acknowledged = 0
        """As many of them as the model's process knows of."""

    @property
    def waiting(self) -> int:
        """Number of frames that wait for the model."""
        return self._pushed - self._consumed

    def push(self, pcm: Float32) -> None:
        """Queue the next user frame, float32 ``[frame_size]``; if the model's process takes none, it is skipped."""
        self.index += 1
        if self._lost and not self._ask(Asked.SKIP, self._lost):
            self._lost += 1
            return
        self._lost = 0
        if self._ask(Asked.PUSH, 0, pcm):
            self._pushed += 1
        else:
            self._lost = 1

    def insert_silence(self, frames: int) -> None:
        """Queue silence that takes no time on the time line."""
        if self._ask(Asked.SILENCE, frames):
            self._pushed += frames

    def skip(self, frames: int) -> None:
        """Advance the time line by frames that the model does not process."""
        self.index += frames
        if not self._ask(Asked.SKIP, frames):
            self._lost += frames

    def end_source(self) -> None:
        """Tell a model that translates that the source has ended."""
        self.index += 1
        self._pushed += 1
        self._seating.must(self._ask(Asked.END_SOURCE))

    def finish(self) -> None:
        """Mark the end of the user's audio."""
        self._seating.must(self._ask(Asked.FINISH, self.flush))

    def take(self) -> list[Outcome]:
        """Remove and return all results up to one whose message has not come."""
        taken: list[Outcome] = []
        while self._results:
            first = self._results[0]
            if isinstance(first, int):
                if first not in self._messages:
                    break
                first = self._messages.pop(first)
            self._results.popleft()
            taken.append(first)
        self._taken += len(taken)
        if self._taken - self._acknowledged >= UNACKNOWLEDGED:
            self._ask(Asked.TAKEN)
        return taken

    def export(self) -> None:
        """Export the slot's state at the next frame boundary."""
        self._seating.must(self._ask(Asked.EXPORT))

    def close(self) -> None:
        """Free the slot, and discard results that were not taken."""
        self._seating.close(self)

    def abandon(self) -> None:
        """Free the slot soon; a finalizer may call it, from any thread."""
        self._seating.abandon(self)

    def receive(self, given: Given) -> None:
        """Take a record (the seating, in the event loop)."""
        self.ready, self.translated, self._consumed = given.ready, given.translated, given.consumed
        if given.outcome is not None:
            self._results.append(given.outcome)
        elif given.message is not None:
            self._results.append(given.message)
        self._notify()

    def bring(self, number: int, outcome: Outcome) -> None:
        """Take what belongs where a record says so (the seating)."""
        self._messages[number] = outcome
        self._notify()

    def fail(self, error: Exception) -> None:
        """End with an error of this process's (the seating)."""
        self.ready = True
        self._results.append(Failed(error))
        self._notify()

    def _ask(self, asked: Asked, number: int = 0, pcm: Float32 | None = None) -> bool:
        asked_for = self._seating.ask(asked, self.number, self._taken, number, pcm)
        if asked_for:
            self._acknowledged = self._taken
        return asked_for


class DistantSeating:
    """The seats of one model, the ``ring``-th of this front's. All of it belongs to the event loop."""

    def __init__(
        self, link: Link, ring: int, spec: ModelSpec, commands: RingWriter, told: RingReader, bell: Bell
    ) -> None:
        self.vacancies: Subscribers[Callable[[], None]] = Subscribers()
        """Nobody is told: who has been let in has a slot."""
        self.free: int = spec.capacity
        self.late: bool = False
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._ring = ring
        self._spec = spec
        self._commands = commands
        self._told = told
        self._bell = bell
        self._seats: dict[int, DistantSeat] = {}
        self._numbers = 0
        self._announcing = False
        self._over = False

    def observed(self, observer: Observer) -> AbstractContextManager[None]:  # noqa: ARG002 -- steps are made elsewhere
        """Do nothing: whoever watches the steps of the model is in its process."""
        return nullcontext()

    async def take_seat(
        self,
        options: SessionOptions,
        *,
        realtime: bool,
        notify: Callable[[], None],
        state: SessionState | None = None,
        prompt: Prompt | None = None,
    ) -> DistantSeat:
        """Take a free slot of the model.

        :raises CapacityError: if there is none
        :raises ServerError: if the model's process has ended
        """
        self._numbers += 1
        number = self._numbers
        asked: dict[str, Any] = {"options": attrs.asdict(options), "realtime": realtime}
        if state is not None:
            asked["state"] = {"metadata": dict(state.metadata), "tensors": dict(state.tensors)}
        if prompt is not None:
            asked["prompt"] = attrs.asdict(prompt)
        # Known before it is there: what it tells by the ring may come before the answer.
        seat = self._seats[number] = DistantSeat(self, number, notify)
        try:
            answer = await self._link.ask_to_the_end("open", model=self._ring, seat=number, **asked)
        except BaseException:
            del self._seats[number]
            raise
        seat.index, seat.flush = answer["index"], answer["flush"]
        if answer["ready"]:
            seat.ready = True
        return seat

    def hear(self, written: int) -> None:
        """Hand out the records that the model's process has written.

        :raises RingError: if one is missing
        """
        for numbers, samples in self._told.read(written):
            given = read_given(self._spec, numbers, samples)
            seat = self._seats.get(given.seat)
            if seat is not None:
                seat.receive(given)

    def bring(self, message: Mapping[str, Any]) -> None:
        """Hand out what came as a message."""
        seat = self._seats.get(message["seat"])
        if seat is None:
            return
        outcome: Outcome
        if "failed" in message:
            outcome = Failed(as_error(message["failed"]))
        elif "refused" in message:
            outcome = Exported(as_error(message["refused"]))
        else:
            outcome = Exported(SessionState(metadata=message["metadata"], tensors=message["tensors"]))
        seat.bring(message["number"], outcome)

    def ask(self, asked: Asked, seat: int, taken: int, number: int, pcm: Float32 | None) -> bool:
        """Write a command; return whether there was room for it."""
        if self._over:
            return True
        samples = () if pcm is None else (pcm,)
        written = self._commands.write((asked, seat, taken, number), *samples)
        if not self._announcing:
            self._announcing = True
            self._loop.call_soon(self._announce)
        return written

    def must(self, written: bool) -> None:
        """Check that a command was written that cannot be left out.

        :raises ModelError: if not
        """
        if not written:
            raise ModelError("the model's process does not take what it is told; start the conversation again")

    def close(self, seat: DistantSeat) -> None:
        """Free a seat's slot."""
        if self._seats.pop(seat.number, None) is not None and not self._over:
            # By a message, as the ring may be full; and so in order with the place that is given up next.
            self._link.tell("close", model=self._ring, seat=seat.number)

    def abandon(self, seat: DistantSeat) -> None:
        """Free a seat's slot soon, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close, seat)

    def end(self) -> None:
        """End all conversations: the model's process is gone."""
        self._over = True
        for seat in list(self._seats.values()):
            seat.fail(ModelError(_ENDED))

    def _announce(self) -> None:
        self._announcing = False
        self._bell.ring(self._ring, self._commands.written)
