"""Who listens to a call beside its caller: each hears both sides, and none can hold the call back.

1. The call hands on what happens, and never waits: it is queued for each observer.
2. A queue has a bound, in bytes; what is over it goes, the oldest first, and the observer is told how much.
3. Sound is made into samples once for all of them, and only while there are any.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.concurrency.notifiers import Notifier
from duplex.errors import CapacityError
from duplex.events import Event
from duplex.frame_model import Frame
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import WireMessage
from duplex.server.wires.live_sideband import SidebandWire

__all__ = ["Mailbox", "Observers"]

MAX_OBSERVERS = 4
"""Of one call."""
MAX_WAITING_BYTES = 1 << 20
"""That wait for one observer: ten seconds of both sides."""
EVENT_BYTES = 256
"""That an event counts for."""
_FORMAT = AudioFormat("pcm", 24000)
Note: TypeAlias = Callable[[], Iterable[WireMessage]]
"""Makes the messages that tell of something."""


class Mailbox:
    """What waits to be told to one observer."""

    def __init__(self, wire: SidebandWire) -> None:
        self.wire = wire
        self.ended: tuple[CloseReason, str] | None = None
        """How the call has ended, once it has."""
        self._notes: deque[tuple[Note, int]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._news = Notifier()

    def put(self, note: Note, size: int) -> None:
        """Queue something of so many bytes; what is too much for the queue is dropped, the oldest first."""
        self._notes.append((note, size))
        self._bytes += size
        while self._bytes > MAX_WAITING_BYTES:
            self._bytes -= self._notes.popleft()[1]
            self._dropped += 1
        self._news.notify_all()

    def end(self, reason: CloseReason, text: str) -> None:
        """Note that nothing more comes."""
        self.ended = reason, text
        self._news.notify_all()

    async def wait_end(self) -> None:
        """Wait until the call has ended."""
        while self.ended is None:
            await self._news.wait()

    async def take(self) -> Note | None:
        """Wait for the next to be told, ``None`` when no more comes."""
        while not self._notes and self.ended is None:
            await self._news.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return partial(self.wire.dropped, dropped)
        if not self._notes:
            return None
        note, size = self._notes.popleft()
        self._bytes -= size
        return note


class Observers:
    """The observers of one call, and its recorder; ``sample_rate`` is the model's."""

    def __init__(self, sample_rate: int) -> None:
        # Two, since each side's samples may be resampled, and a resampler is one stream's.
        self._user = create_wire_codec(_FORMAT, sample_rate)
        self._agent = create_wire_codec(_FORMAT, sample_rate)
        self._mailboxes: list[Mailbox] = []

    def join(self, wire: SidebandWire) -> Mailbox:
        """Return the mailbox of a new observer.

        :raises CapacityError: if there are as many as there may be
        """
        if len(self._mailboxes) >= MAX_OBSERVERS:
            raise CapacityError(f"this session has {MAX_OBSERVERS} observers, which is the most; detach one of them")
        self._mailboxes.append(Mailbox(wire))
        return self._mailboxes[-1]

    def leave(self, mailbox: Mailbox) -> None:
        """Tell an observer nothing more."""
        if mailbox in self._mailboxes:
            self._mailboxes.remove(mailbox)

    def hear(self, pcm: NDArray[np.float32]) -> None:
        """Hand on what the caller sent, float32 ``[samples]``."""
        if self._mailboxes:
            payload = self._user.encode(pcm)
            for each in self._mailboxes:
                each.put(partial(each.wire.heard, payload), len(payload))

    def record(self, frame: Frame) -> None:
        """Hand on what the agent said."""
        if self._mailboxes and frame.agent_pcm is not None:
            payload = self._agent.encode(frame.agent_pcm)
            for each in self._mailboxes:
                each.put(partial(each.wire.said, frame.at, payload), len(payload))

    def tell(self, event: Event) -> None:
        """Hand on an event."""
        for each in self._mailboxes:
            each.put(partial(each.wire.tell, event), EVENT_BYTES)

    def end(self, reason: CloseReason, text: str) -> None:
        """Say that the call has ended, and why."""
        for each in self._mailboxes:
            each.end(reason, text)
        self._mailboxes.clear()
