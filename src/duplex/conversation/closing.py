"""The end of a conversation: all that it holds is let go of, whatever one part of that raises."""

import logging
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["Closing"]

logger: logging.Logger = logging.getLogger(__name__)


class Closing:
    """Closes one thing after the other; an error keeps no other from being closed, and the first one is kept."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def call(self, close: Callable[[], None]) -> None:
        """Close something."""
        try:
            close()
        except Exception as error:  # noqa: BLE001 -- raised to whoever leaves the conversation
            self._error = self._error or error

    async def wait_for(self, close: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Close something that takes a while, also when cancelled; leave it after so many seconds."""
        try:
            with anyio.move_on_after(seconds, shield=True) as patience:
                await close()
            if patience.cancelled_caught:
                logger.warning("a transport or a line took more than %g s to close, and was left", seconds)
        except Exception as error:  # noqa: BLE001 -- as above
            self._error = self._error or error

    def take_error(self) -> Exception | None:
        """Return the first error, once."""
        error, self._error = self._error, None
        return error
