"""A call in plain lines, where standard output is no terminal: what was said on it, the rest on standard error."""

from collections.abc import Callable, Sequence

from duplex.events import Event, Lag, SessionStarted
from duplex.parsing import plain
from duplex.talk.call import Call
from duplex.talk.drawing import utterance_line
from duplex.talk.terminal import Interrupts

__all__ = ["show_lines"]


async def show_lines(
    call: Call, *, hints: Sequence[str], record: bool, say: Callable[[str], None], note: Callable[[str], None]
) -> int:
    """Hold a call; return the exit status. ``say`` prints a line of the dialogue, ``note`` one about the call."""
    interrupts = Interrupts(call.quit)
    devices = ""
    told_lag = False

    def changed(event: Event) -> None:
        nonlocal devices, told_lag
        stats = call.line.stats
        are_open = bool(stats.input_device and stats.output_device)
        now = f"microphone: {stats.input_device}, loudspeaker: {stats.output_device}"
        if are_open and now != devices:  # they open after the session has begun
            devices = now
            note(now)
        if isinstance(event, SessionStarted):
            note(f"{event.model} listens")
            for hint in hints:
                note(hint)
        elif isinstance(event, Lag) and (are_open or not told_lag):
            told_lag = not are_open  # there is one each second until there is a device again
            note(f"lag of {event.behind:.2f} s, {event.dropped:.2f} s of the {event.side}'s audio dropped")
        _say_ended(call, say)

    call.changed, call.noticed = changed, note
    for notice in call.notices:
        note(notice)
    with interrupts.handled():
        await call.run(record=record)
    _say_ended(call, say)
    return interrupts.status


def _say_ended(call: Call, say: Callable[[str], None]) -> None:
    for utterance in call.state.take_ended():
        say(plain(utterance_line(utterance)))
