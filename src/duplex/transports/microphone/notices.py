"""What a transport tells people, one line each, and not again and again."""

import logging
from collections.abc import Callable

from duplex.transports.microphone.meters import InputWatch

__all__ = ["Notices"]

logger: logging.Logger = logging.getLogger(__name__)

SILENT_SECONDS = 1.5


class Notices:
    """Passes lines to ``tell``; without one they are logged."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._silent = self._clipped = False

    def tell(self, text: str) -> None:
        """Tell one line."""
        if self._tell is None:
            logger.warning("%s", text)
        else:
            self._tell(text)

    def watch(self, heard: InputWatch) -> None:
        """Tell when a microphone begins to give nothing but zeros, or is clipped for the first time."""
        silent = heard.silent_seconds > SILENT_SECONDS
        if silent and not self._silent:
            self.tell(
                "the microphone gives nothing but silence: is it muted, or has the system refused it to this program "
                "(privacy settings)?"
            )
        self._silent = silent
        if heard.clipped and not self._clipped:
            self._clipped = True
            self.tell("the microphone is clipped: lower its level, or move away from it")
