"""SIGINT and SIGTERM deferred to the end of a training step, so that no partial step is ever saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

__all__ = ["defer_interrupts"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def defer_interrupts() -> Generator[Callable[[], bool], None, None]:
    """Yield a function that returns whether a signal was received; a second one interrupts at once.

    Only a program's main thread receives signals; in other threads the function always returns ``False``.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    # One that is ignored, as under nohup, stays ignored.
    mine = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number in mine:
            signal.signal(number, before[number])
