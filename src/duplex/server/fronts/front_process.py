"""A front from its beginning to its end, in the model's process: its process, its link, what its calls hold here."""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
import anyio.to_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.engine.model import Model
from duplex.server.admission import Admission, Refusal
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.messages import Link, Message, send
from duplex.server.fronts.plan import FrontPlan, SharedMemory, rings_of, size_of
from duplex.server.fronts.ring import RingReader, RingWriter
from duplex.server.fronts.served_seats import ServedSeats
from duplex.server.fronts.totals import Families
from duplex.server.logs import fields

__all__ = ["FrontProcess", "Hall"]

log: logging.Logger = logging.getLogger(__name__)

STOP_SECONDS = 15.0
"""That a front may take to end when it is told to, beside what its calls are given."""
Planned = Callable[[Mapping[str, int]], FrontPlan]
"""Makes the plan of a front, given the numbers of its descriptors."""


@attrs.frozen
class Hall:
    """What all fronts of a server share."""

    models: Sequence[Model]
    admissions: Sequence[Admission]
    """Of each model."""
    changed: Callable[[], None]
    """To be called when somebody comes or goes."""
    tell_metrics: Callable[[], bytes]
    """Returns the metrics of the whole server."""


class FrontProcess:
    """One front of a server; ``bound`` is the socket that all of them accept connections on.

    If this does not succeed, nothing is open.

    :raises OSError: if there are too few descriptors
    :raises UsageError: if a model cannot be described to it
    """

    def __init__(self, hall: Hall, plan: Planned, bound: socket.socket, crowd: SharedMemory) -> None:
        self.started: bool = False
        """Whether it takes connections."""
        self.metrics: Families = ()
        """What it told last."""
        self.silent: float = 0.0
        """Seconds since it told something, which it does once a second, or since it was made if it has not started; who
        looks after it counts them."""
        self.status: int | None = None
        """Its exit status, when it has ended."""
        self._hall = hall
        self._loop = asyncio.get_running_loop()
        self._callers: set[tuple[int, int]] = set()
        specs = [model.spec for model in hall.models]
        # The ends of the link are in a stack of their own: from :meth:`connect` on, they are closed in other ways.
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as linked:
            self._memory = opened.enter_context(contextlib.closing(SharedMemory.of(size_of(specs))))
            bell, their_bell = map(opened.enter_context, socket.socketpair())
            self._end, theirs = map(linked.enter_context, socket.socketpair())
            self._theirs = their_bell, theirs
            self._given = {
                "bound": bound.fileno(),
                "crowd": crowd.descriptor,
                "memory": self._memory.descriptor,
                "bell": their_bell.fileno(),
                "link": theirs.fileno(),
            }
            self._plan = plan(self._given).to_bytes()
            self._bell = opened.enter_context(contextlib.closing(Bell(bell, self._hear)))
            self._seats = [
                ServedSeats(
                    model.engine,
                    RingReader(self._memory.memory, *commands),
                    RingWriter(self._memory.memory, *told),
                    partial(self._bell.ring, number),
                    partial(self._tell_of_seat, number),
                    self.kill,
                )
                for number, (model, (commands, told)) in enumerate(zip(hall.models, rings_of(specs), strict=True))
            ]
            linked.pop_all()
            self._opened = opened.pop_all()
        self._link: Link
        self._process: subprocess.Popen[bytes]

    async def connect(self) -> None:
        """Start the process, and tell it how to begin; :meth:`run` is next. If this does not succeed, nothing is open.

        :raises OSError: if no process can be started
        """
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as theirs:
            opened.push(self._opened)
            opened.callback(self._end.close)
            for each in self._theirs:
                theirs.enter_context(each)
            reader, writer = await asyncio.open_unix_connection(sock=self._end)
            self._link = Link(reader, writer, self._obey)
            opened.callback(self._link.close)
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 -- this package's own, and nothing is waited for
                [sys.executable, "-P", "-m", "duplex.server.fronts", str(self._given["link"])],
                stdin=subprocess.DEVNULL,
                pass_fds=tuple(self._given.values()),
            )
            opened.pop_all()
        send(writer, {"plan": self._plan})

    async def run(self) -> None:
        """Serve the front until it has ended; when this is cancelled, it is told to end at once."""
        linked = asyncio.ensure_future(self._link.run())
        try:
            with contextlib.ExitStack() as served:
                for seats in self._seats:
                    served.enter_context(seats.served())
                await self._follow(linked)
        finally:
            self._opened.close()
            for model, caller in self._callers:
                self._hall.admissions[model].leave(caller)
            self._callers.clear()
            self._hall.changed()

    def drain(self, seconds: float) -> None:
        """Have it end: nobody is let in any more, and calls have so many seconds."""
        self._link.tell("drain", seconds=seconds)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def flush(self) -> None:
        """Write what seats have given outside of the model's rounds."""
        for seats in self._seats:
            seats.flush()

    def tell_board(self, counts: Sequence[Sequence[int]]) -> None:
        """Tell it how many talk and wait, of each model, and where its callers are."""
        positions: list[dict[int, int]] = [{} for _ in self._hall.models]
        for model, caller in self._callers:
            positions[model][caller] = self._hall.admissions[model].position(caller)
        self._link.tell("board", counts=counts, positions=positions)

    async def _follow(self, linked: "asyncio.Future[None]") -> None:
        try:
            await asyncio.shield(linked)
        except Exception:
            log.exception("a front has said what makes no sense")
        finally:
            with anyio.CancelScope(shield=True):
                if not linked.done():
                    self.drain(0)
                    await asyncio.wait([linked], timeout=STOP_SECONDS)
                self._link.close()
                await self._reap()

    async def _reap(self) -> None:
        """Wait for the end of the process, for a moment."""
        try:
            self.status = await anyio.to_thread.run_sync(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.error("a front does not end and is killed", extra=fields(process=self._process.pid))  # noqa: TRY400
            self._process.kill()
            self.status = await anyio.to_thread.run_sync(self._process.wait)

    def _hear(self, model: int, written: int) -> None:
        try:
            self._seats[model].obey(written)
        except Exception:
            log.exception("a front is ended: what it wants of its seats makes no sense")
            self.kill()

    def _tell_of_seat(self, model: int, message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(partial(self._link.tell, "seat", model=model, **message))

    def _obey(self, name: str, told: Message) -> Message | Awaitable[Message] | None:
        if self.started:
            self.silent = 0.0
        match name:
            case "open":
                return self._seats[int(told["model"])].open(told)
            case "close":
                self._seats[int(told["model"])].close(told["seat"])
            case "enter":
                return self._enter(told["model"], told["address"])
            case "leave":
                self._leave(told["model"], told["caller"])
            case "encode":
                return self._encode(told)
            case "metrics":
                self.metrics = told["families"]
                return {"text": self._hall.tell_metrics()} if "question" in told else None
            case _:
                self.started, self.silent = True, 0.0
                self._hall.changed()
        return None

    def _enter(self, model: int, address: str) -> Message:
        admission = self._hall.admissions[model]
        caller = admission.arrive(address)
        if isinstance(caller, Refusal):
            return {"refusal": caller.value}
        self._callers.add((model, caller))
        self._hall.changed()  # before the answer, so that the front knows where its new caller is
        return {"caller": caller}

    def _leave(self, model: int, caller: int) -> None:
        self._callers.discard((model, caller))
        self._hall.admissions[model].leave(caller)
        self._hall.changed()

    async def _encode(self, told: Message) -> Message:
        model = self._hall.models[int(told["model"])]
        codes: NDArray[np.int64] = await anyio.to_thread.run_sync(model.voice_codes.encode, model.codec, told["pcm"])
        return {"codes": codes}
