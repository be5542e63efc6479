"""What a seat of a model of synthesis answers: one step, or its state."""

from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.engine.outcomes import Exported, Failed, ScriptProgress
from duplex.engine.seat import Seat
from duplex.errors import ClosedError, ModelError
from duplex.frame_model import Frame, SessionState

__all__ = ["answer", "check", "exported", "restored"]


def check(seat: Seat) -> None:
    """Check that a seat can still answer.

    :raises ClosedError: if it has been freed
    :raises DuplexError: if the model has failed
    """
    if seat.closed:
        raise ClosedError("the speaker was left before the text had been said")
    if seat.failed:
        for outcome in seat.take():
            if isinstance(outcome, Failed):
                raise outcome.error
        raise ModelError("the model has failed; say the text again")


async def answer(seat: Seat, wakeup: ThreadsafeNotifier) -> tuple[ScriptProgress, Frame | None]:
    """Return what a step gives that the seat has been pushed a frame for: how far the text has come, and its sound.

    :raises ClosedError: if the seat is freed meanwhile
    :raises DuplexError: if the model fails
    """
    progress: ScriptProgress | None = None
    frame: Frame | None = None
    while progress is None:
        await wakeup.wait()
        for outcome in seat.take():
            if isinstance(outcome, Failed):
                raise outcome.error
            if isinstance(outcome, ScriptProgress):
                progress = outcome
            elif isinstance(outcome, Frame):
                frame = outcome
        if progress is None:
            check(seat)
    return progress, frame


async def exported(seat: Seat, wakeup: ThreadsafeNotifier) -> SessionState:
    """Return the state of a seat that waits for nothing.

    :raises ClosedError: if it is freed meanwhile
    :raises DuplexError: if the model fails
    """
    seat.export()
    while True:
        await wakeup.wait()
        for outcome in seat.take():
            if isinstance(outcome, Failed):
                raise outcome.error
            if isinstance(outcome, Exported):
                return _checked(outcome.state)
        if seat.closed:
            raise ClosedError("the speaker was left before the text could be saved")


async def restored(seat: Seat, wakeup: ThreadsafeNotifier) -> None:
    """Wait until a seat is where its state was taken.

    :raises StateError: if the model cannot take the state
    :raises DuplexError: if the model fails
    """
    while not seat.ready:
        await wakeup.wait()
    check(seat)


def _checked(state: SessionState | Exception) -> SessionState:
    if isinstance(state, Exception):
        raise state
    return state
