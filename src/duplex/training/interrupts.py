"""Ctrl-C and SIGTERM that wait until a step is over, so that what is saved is never half of one."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

__all__ = ["interrupts_between_steps"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_between_steps() -> Generator[Callable[[], bool], None, None]:
    """Give a function that tells whether somebody has asked to stop; a second Ctrl-C stops at once.

    Only a program's main thread gets signals; elsewhere nobody asks.
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
