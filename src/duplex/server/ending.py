"""How a call ends: for one reason, the one that comes first, which the caller is told."""

import logging

import anyio
from starlette.websockets import WebSocketDisconnect

from duplex.server.account import CallAccount
from duplex.server.admission import Refusal
from duplex.server.close_reasons import OF_REFUSAL, CloseReason, reason_of
from duplex.server.line import Line
from duplex.server.wires.base import Wire

__all__ = ["Ending"]

log: logging.Logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 5.0
"""Seconds that the last messages may take."""


class Ending:
    """Why a call ends, as soon as it does; what goes on within its ``scope`` is cancelled then."""

    def __init__(self, account: CallAccount) -> None:
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self._account = account
        self._reason: tuple[CloseReason, str] | None = None

    @property
    def over(self) -> bool:
        """Whether there is a reason."""
        return self._reason is not None

    @property
    def reason(self) -> tuple[CloseReason, str]:
        """The reason and its words; a failure where nobody gave one."""
        return self._reason or (CloseReason.FAILED, CloseReason.FAILED.text)

    def end(self, reason: CloseReason, text: str = "") -> None:
        """End the call, unless it has been ended; whatever it waits for is cancelled."""
        if self._reason is None:
            self._reason = reason, text or reason.text
            self.scope.cancel()

    def fail(self, error: Exception, what: str) -> None:
        """End the call with an error; one that nobody foresaw is for whoever runs the server."""
        reason, text = reason_of(error)
        if reason is CloseReason.FAILED:
            log.error(what, exc_info=error)
        elif reason is CloseReason.RESUME_MISMATCH:
            log.warning("a conversation cannot go on here: %s", error)
        self.end(reason, text)

    def refuse(self, refusal: Refusal) -> None:
        """End the call of one who does not get a place."""
        self._account.refuse(refusal)
        self.end(OF_REFUSAL[refusal])

    def shut_down(self) -> None:
        """End the call because the server stops."""
        if not self._account.began:
            self.refuse(Refusal.DRAINING)
        self.end(CloseReason.DRAINING)

    async def say_goodbye(self, line: Line[Wire]) -> None:
        """Tell the caller why it is over, who has not hung up."""
        reason, text = self.reason
        if reason is CloseReason.HUNG_UP or (reason is CloseReason.FINISHED and not await line.restored()):
            return
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                await line.send(line.wire.goodbye, reason, text)
                await line.close(reason.code, reason.text)
            except (WebSocketDisconnect, RuntimeError):
                log.debug("the caller was gone before the goodbye")
