"""A line that survives its websocket: the caller comes back on another, and the conversation goes on where it was.

1. When the conversation begins the caller gets a token (:meth:`duplex.server.wires.base.Wire.resumable`). From then on
   what is sent is kept for a while (:mod:`duplex.server.handover.sent`).
   The websocket is watched, so that one on which all vanishes is noticed within seconds.
2. A websocket that breaks leaves the line *interrupted*: nothing more is heard, what is sent is kept, and the
   conversation stands still. A caller who says goodbye (close codes 1000 and 1001) has hung up, as without any of this.
3. Who shows the token within the grace goes on (:meth:`KeptLine.take_up`): gets the next token, and then what was not
   heard. If the old websocket is still there, it is closed: the newer generation is the caller, whatever network the
   older one has been left behind in.
4. After the grace the caller has hung up.
"""

from collections.abc import Mapping
from typing import Any, cast

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.concurrency.notifiers import Notifier
from duplex.server.close_reasons import CloseReason
from duplex.server.handover.presence import watch
from duplex.server.handover.records import MovedCall
from duplex.server.handover.sent import SentMessages
from duplex.server.handover.tokens import ResumeTokens
from duplex.server.line import Line
from duplex.server.wires.base import Opening, Resumption, Wire, WireMessage

__all__ = ["KeptLine"]

CLOSE_SECONDS = 5.0
"""That the goodbye to a websocket that was left may take."""
_LOST = 1006
_NO_STATUS = 1005
"""What one closes with who says no code; with uvicorn also a websocket that broke, of which there is no reason then."""


class KeptLine(Line[Wire]):
    """A caller's line that can be broken for ``grace`` seconds; ``tokens`` finds it by the token of its ``owner``."""

    def __init__(
        self,
        websocket: WebSocket,
        wire: Wire,
        max_message_bytes: int,
        *,
        owner: str,
        grace: float,
        tokens: "ResumeTokens[KeptLine]",
        opening: Opening,
        path: str,
    ) -> None:
        super().__init__(websocket, wire, max_message_bytes)
        self.owner = owner
        self.opening = opening
        """What the caller asked for."""
        self.path = path
        """Where."""
        self.grace = grace
        self.generation: int = 0
        """Of the token that is good now; 0 before there is one."""
        self.sent: SentMessages = SentMessages()
        self.heard: int = 0
        """Messages of sound that have come."""
        self.moved: bool = False
        """Whether another server may go on with it."""
        self._before = 0, 0
        """Of a call that goes on from another server: the generation there, and how many messages have come."""
        self._tokens = tokens
        self.key: str = ""
        self._present = True
        self._over = False
        self._lost_at = 0.0
        self._lost_sounds = 0
        self._changed = Notifier()
        self._left = anyio.Event()
        """Set when the websocket of now is the caller's no longer."""
        self._receiving = self._writing = anyio.CancelScope()

    @property
    def interrupted(self) -> bool:
        """Whether nobody is there for now."""
        return not self._present

    async def offer(self) -> None:
        """Tell the caller, whose conversation begins, how to come back when the line breaks."""
        async with self._sending:
            generation, received = self._before
            if not generation:
                await self._offer(0.0, 0)
                return
            self.generation = generation
            self._lost_at = anyio.current_time() - self.away
            await self._tell_again(received)

    def continue_from(self, moved: MovedCall, received: int) -> bool:
        """Go on from another server; return whether what the caller has not ``received`` is there."""
        self.away: float = max(moved.away, 0.001)
        self._before = moved.generation, received
        if moved.sent is None:
            self.sent = SentMessages(received)
            return True
        self.sent = SentMessages(moved.count, moved.sent)
        return self.sent.since(received) is not None

    async def save(self, state: bytes, *, whole: bool) -> tuple[str, bytes]:
        """Return the key and the bytes of the call as it is; ``whole``: it stands still, and nothing more is sent."""
        async with self._sending:
            kept = self.sent.kept() if whole else None
            moved = MovedCall(
                path=self.path,
                query=dict(self.opening.query),
                state=state,
                generation=self.generation,
                sent=cast("Any", kept),
                count=self.sent.count,
            )
            return self.key, moved.to_bytes()

    async def tell_moved(self, url: str) -> None:
        """Tell where the conversation goes on."""
        async with self._sending:
            for message in self.wire.moved(url):
                if self._present:
                    await self._write(message)

    async def receive(self) -> WireMessage | None:
        """Return the caller's next message, ``None`` when the caller has hung up or does not come back."""
        while not self._over:
            websocket = self._websocket
            with anyio.CancelScope() as self._receiving:
                message = await websocket.receive()
                if message["type"] != "websocket.disconnect":
                    content = _content(message)
                    self.heard += self.wire.counts(content) is True
                    return content
                if not (self.generation and _broken(message)):
                    return None
                if websocket is self._websocket:
                    self._interrupt()
            if not await self.restored():
                return None
        return None

    async def restored(self) -> bool:
        """Wait until somebody is there; return whether that is so within the grace."""
        with anyio.move_on_at(self._lost_at + self.grace):
            while not (self._present or self._over):
                await self._changed.wait()
        if not self._present:
            self.release()
        return self._present

    def take_lost_sounds(self) -> int:
        """Return how many messages of sound have been lost since this was asked last."""
        lost, self._lost_sounds = self._lost_sounds, 0
        return lost

    async def take_up(self, websocket: WebSocket, received: int) -> CloseReason | None:
        """Go on, on another websocket, with who has ``received`` so many messages, until that is left, too.

        Returns why that cannot be, ``None`` if it has been.
        """
        if self._over:
            return CloseReason.RESUME_UNKNOWN
        if self.sent.since(received) is None:
            if not self._present:
                self.release()
            return CloseReason.RESUME_BEHIND
        old, was_present, left = self._websocket, self._present, anyio.Event()
        if was_present:
            self._interrupt()
        self._left.set()
        self._left, self._websocket = left, websocket
        self._receiving.cancel()
        self._writing.cancel()
        async with self._sending:
            await self._tell_again(received)
            self._present = True
        self.reset_pace()
        self._changed.notify_all()
        if was_present:
            await _close(old, CloseReason.TAKEN_OVER)
        await left.wait()
        return None

    def release(self) -> None:
        """Let nobody come back: the call is over."""
        self._over = True
        self._tokens.revoke(self.key)
        self._left.set()
        self._changed.notify_all()

    async def close(self, code: int, reason: str) -> None:
        """Close the websocket, if there is one."""
        if self._present:
            await super().close(code, reason)

    async def _send(self, message: WireMessage) -> None:
        sound = self.wire.counts(message) if self.generation else None
        if sound is not None:
            self.sent.add(message, sound=sound)
        if self._present:
            await self._write(message)

    async def _write(self, message: WireMessage) -> None:
        """Send on the websocket; once it can be another's, whether that works is for :meth:`receive` to find out."""
        with anyio.CancelScope() as self._writing:
            try:
                await super()._send(message)
            except WebSocketDisconnect:
                if not self.generation:
                    raise

    async def _offer(self, away: float, again: int) -> None:
        """Give the caller the next token; what was sent ``again`` follows."""
        watch(self._websocket)
        self._tokens.revoke(self.key)
        token, self.key = self._tokens.issue(self.owner, self)
        self.generation += 1
        resumption = Resumption(
            token=token,
            generation=self.generation,
            seconds=self.grace,
            away=round(away, 3),
            again=again,
            heard=self.heard,
        )
        for message in self.wire.resumable(resumption):
            await self._write(message)

    async def _tell_again(self, received: int) -> None:
        """Tell one who is back what was not heard, and what has been told since."""
        unheard = self.sent.since(received)
        messages = () if unheard is None else unheard.messages
        self._lost_sounds += 0 if unheard is None else unheard.lost_sounds
        await self._offer(anyio.current_time() - self._lost_at, len(messages))
        for message in messages:
            await self._write(message)

    def _interrupt(self) -> None:
        self._present = False
        self._lost_at = anyio.current_time()


def _content(message: Mapping[str, Any]) -> WireMessage:
    data: WireMessage | None = message.get("bytes")
    return message["text"] if data is None else data


def _broken(message: Mapping[str, Any]) -> bool:
    """Tell whether a websocket has ended without a word."""
    code = message.get("code")
    return code == _LOST or (code == _NO_STATUS and "reason" not in message)


async def _close(websocket: WebSocket, reason: CloseReason) -> None:
    """Close a websocket that may be there no longer."""
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await websocket.close(reason.code, reason.text)
        except (WebSocketDisconnect, RuntimeError):
            return
