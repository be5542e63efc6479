"""The seats of one model that a front's conversations hold, in the model's process.

1. Commands are carried out in the event loop, as soon as the front has rung.
2. What seats give is written to the ring on the inference thread, after each of its rounds, and the front is woken once
   for all of it; what other threads give seats is written by the event loop.
3. Results for which the front's ring or conversation has no room stay in the seat, which is then held back by its own
   rules.
"""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

from duplex.engine.engine import Engine
from duplex.engine.outcomes import Exported, Failed, Outcome
from duplex.engine.seat import Seat
from duplex.frame_model import ModelSpec, SessionState
from duplex.options import SessionOptions
from duplex.prompting.prompt import EmbeddedColumns, Prompt
from duplex.server.fronts.messages import Message, described
from duplex.server.fronts.records import Asked, Given, write_given
from duplex.server.fronts.ring import RingReader, RingWriter

__all__ = ["ServedSeats"]

log: logging.Logger = logging.getLogger(__name__)

CREDIT = 8
"""Results that may wait to be taken by a conversation of the front."""
_SPARE = 4
"""Records that are left free for what a seat is given while its results are being written."""


@attrs.define(eq=False)
class _Held:
    """A seat, and what its front knows of it."""

    seat: Seat
    pushed: int = 0
    sent: int = 0
    taken: int = 0
    messages: int = 0
    told: tuple[bool, bool, int] = (False, False, 0)


class ServedSeats:
    """Seats of one model for one front. ``ring``, ``tell`` and ``fail``, which ends it, are called from any thread."""

    def __init__(
        self,
        engine: Engine,
        commands: RingReader,
        results: RingWriter,
        ring: Callable[[int], None],
        tell: Callable[[Message], None],
        fail: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._spec: ModelSpec = engine.model.spec
        self._commands = commands
        self._results = results
        self._ring = ring
        self._tell = tell
        self._fail = fail
        self._held: dict[int, _Held] = {}
        self._changed: dict[int, None] = {}
        """Seats that may have given something."""
        self._writing = threading.Lock()

    @contextmanager
    def served(self) -> Generator[None]:
        """Write what seats give after each round of the inference thread; free all of them in the end."""
        try:
            with self._engine.rounds(self.flush):
                yield
        finally:
            for number in list(self._held):
                self.close(number)

    def open(self, asked: Message) -> Message:
        """Take a slot; return what the front needs to know of it.

        :raises DuplexError: as :meth:`duplex.engine.engine.Engine.open` does
        """
        number: int = asked["seat"]
        given, prompt = asked.get("state"), asked.get("prompt")
        seat = self._engine.open(
            SessionOptions(**asked["options"]),
            realtime=asked["realtime"],
            notify=lambda: self._mark(number),
            state=None if given is None else SessionState(metadata=given["metadata"], tensors=given["tensors"]),
            prompt=None if prompt is None else _prompt(prompt),
        )
        self._held[number] = _Held(seat)
        self._mark(number)  # what it gave meanwhile found nobody who holds it, and no other round may come
        self.flush()
        return {"index": seat.index, "flush": seat.flush, "ready": seat.ready}

    def close(self, number: int) -> None:
        """Free the slot of a seat."""
        held = self._held.pop(number, None)
        if held is not None:
            held.seat.close()

    def obey(self, written: int) -> None:
        """Carry out the commands that have been written.

        :raises RingError: if one is missing
        """
        for (asked, number, taken, count), pcm in self._commands.read(written):
            held = self._held.get(number)
            if held is None:
                continue
            if held.sent - held.taken >= CREDIT:  # its results have waited for this
                self._mark(number)
            held.taken = taken
            _obey(held, asked, count, pcm)
        if self._changed:
            self.flush()

    def flush(self) -> None:
        """Write what seats have given, as far as there is room, and wake the front; nothing is raised."""
        try:
            self._flush()
        except Exception:
            log.exception("a front is ended: what its seats gave cannot be written")
            self._fail()

    def _flush(self) -> None:
        with self._writing:
            before = self._results.written
            for number in list(self._changed):
                self._changed.pop(number, None)
                held = self._held.get(number)
                if held is not None and not self._pass_on(number, held):
                    self._mark(number)
            if self._results.written != before:
                self._ring(self._results.written)

    def _mark(self, number: int) -> None:
        self._changed[number] = None

    def _pass_on(self, number: int, held: _Held) -> bool:
        """Write what a seat has given; return whether that was all."""
        seat = held.seat
        if held.sent - held.taken >= CREDIT or self._results.free < len(seat.outbox) + _SPARE:
            return False
        outcomes = seat.take()
        state = seat.ready, seat.translated, max(held.pushed - seat.waiting, 0)
        if not outcomes and state != held.told:
            write_given(self._results, self._spec, Given(number, *state, None))
        for outcome in outcomes:
            self._write(number, held, state, outcome)
        held.told = state
        return True

    def _write(self, number: int, held: _Held, state: tuple[bool, bool, int], outcome: Outcome) -> None:
        held.sent += 1
        message = None
        if isinstance(outcome, Failed | Exported):
            held.messages += 1
            message = held.messages
            self._tell({"seat": number, "number": message, **_body(outcome)})
        write_given(self._results, self._spec, Given(number, *state, outcome, message))


def _obey(held: _Held, asked: int, count: int, pcm: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    seat = held.seat
    match asked:
        case Asked.PUSH:
            held.pushed += 1
            seat.push(pcm)
        case Asked.SILENCE:
            held.pushed += count
            seat.insert_silence(count)
        case Asked.SKIP:
            seat.skip(count)
        case Asked.END_SOURCE:
            held.pushed += 1
            seat.end_source()
        case Asked.FINISH:
            seat.flush = count
            seat.finish()
        case Asked.EXPORT:
            seat.export()
        case _:  # that results were taken, which every command says
            pass


def _body(outcome: Failed | Exported) -> Message:
    """Return what a message tells of an outcome."""
    if isinstance(outcome, Failed):
        return {"failed": described(outcome.error)}
    if isinstance(outcome.state, Exception):
        return {"refused": described(outcome.state)}
    return {"metadata": dict(outcome.state.metadata), "tensors": dict(outcome.state.tensors)}


def _prompt(told: Message) -> Prompt:
    embedded = told["embedded"]
    return Prompt(
        columns=told["columns"],
        embedded=None if embedded is None else EmbeddedColumns(**embedded),
        voice=told["voice"],
        later=told["later"],
    )
