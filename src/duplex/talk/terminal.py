"""What a process owes its terminal and whoever ends it: signals become a clean end, and settings are put back."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

__all__ = ["Interrupts", "kept_terminal", "quiet_errors"]

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_LEAVE_SCREEN = "\x1b[?1049l\x1b[?25h\x1b[?1000;1003;1015;1006l\x1b[?2004l\x1b[<u\x1b[0m"
"""Leave the alternate screen, show the cursor, no mouse, no marked pastes, plain keys, no colour."""
_KEPT_BYTES = 20_000
"""Of what was written on standard error while the screen was up: its end."""


class Interrupts:
    """Signals that end the program: the first asks ``quit`` for a clean end, the second does not ask."""

    def __init__(self, quit_call: Callable[[], None]) -> None:
        self._quit = quit_call
        self.signal: int | None = None
        """The signal that came."""

    @property
    def status(self) -> int:
        """The exit status that shells expect of it, 0 without one."""
        return 0 if self.signal is None else 128 + self.signal

    def take(self, number: int) -> None:
        """Note a signal, in the event loop."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._quit()

    @contextmanager
    def handled(self) -> Generator[None]:
        """Handle the signals while the block, in the event loop, lasts."""
        loop = asyncio.get_running_loop()

        def handle(number: int, _frame: Any) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(self.take, number)

        # Not the loop's own handlers: there are none on Windows, where there is no SIGHUP either.
        numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def kept_terminal() -> Generator[None]:
    """Leave the terminal as it was found, whatever happens in the block."""
    restore = _saved_settings()
    try:
        yield
    except BaseException:
        if sys.__stdout__ is not None and sys.__stdout__.isatty():
            sys.__stdout__.write(_LEAVE_SCREEN)
            sys.__stdout__.flush()
        raise
    finally:
        restore()


@contextmanager
def quiet_errors() -> Generator[None]:
    """Have a screen drawn on the terminal of standard output while the block lasts, and nothing else on that.

    textual draws on standard error, which may go to a file. PortAudio, ALSA and libpulse write to its file descriptor
    themselves, across whatever a screen has drawn: on a terminal, that comes after the block.
    """
    if sys.__stdout__ is None:
        yield
        return
    before = sys.__stderr__
    with os.fdopen(os.dup(sys.__stdout__.fileno()), "w", encoding="utf-8", errors="replace") as screen:
        sys.__stderr__ = screen  # pyright: ignore[reportAttributeAccessIssue]
        try:
            with _held_back_errors():
                yield
        finally:
            sys.__stderr__ = before  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _held_back_errors() -> Generator[None]:
    """Write what comes on standard error in the block after it, if that is a terminal."""
    descriptor = 2
    if not os.isatty(descriptor):  # a file, or closed: nothing can spoil the screen
        yield
        return
    kept = os.dup(descriptor)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), descriptor)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            log.seek(max(0, log.seek(0, os.SEEK_END) - _KEPT_BYTES))
            _write_all(descriptor, log.read())


def _write_all(descriptor: int, data: bytes) -> None:
    # A terminal that was closed takes nothing any more.
    with suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def _saved_settings() -> Callable[[], None]:
    """Return what puts the terminal's present settings back."""
    if find_spec("termios") is None or not sys.stdin.isatty():  # on Windows textual puts the console's modes back
        return lambda: None
    import termios  # noqa: PLC0415 -- there is none on Windows

    settings = termios.tcgetattr(sys.stdin)

    def restore() -> None:
        # A terminal that was closed has no settings any more.
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)

    return restore
