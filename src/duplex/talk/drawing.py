"""What a screen shows of a call, as text of a given width: it reads without colour."""

from collections.abc import Iterable, Sequence

from duplex.parsing import plain
from duplex.talk.state import CallState, LaneFrame, Utterance
from duplex.transports import MicrophoneStats

__all__ = ["clock", "lanes", "meters", "numbers", "speaking", "utterance_line"]

BARS = " ▁▂▃▄▅▆▇█"
LOWEST_DBFS = -60.0
FRAMES_A_COLUMN = 3
LABEL = 6
"""Columns of a lane's name."""
SECONDS_A_MARK = 2
SILENT_SECONDS = 0.5


def clock(seconds: float) -> str:
    """Return minutes and seconds.

    >>> clock(83.9)
    '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def lanes(frames: Sequence[LaneFrame], at: float, frame_duration: float, width: int) -> list[str]:
    """Return the user's lane, the agent's, and the time axis below them; the newest is on the right."""
    columns = max(width - LABEL, 1)
    # Columns begin at whole multiples on the time line, so that a column does not change as others come.
    first = round(at / frame_duration) - len(frames)
    groups: dict[int, list[LaneFrame]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault((first + index) // FRAMES_A_COLUMN, []).append(frame)
    last = (first + len(frames) - 1) // FRAMES_A_COLUMN
    shown = range(last - columns + 1, last + 1)
    user = "".join(_bar(frame.user_level for frame in groups.get(column, ())) for column in shown)
    agent = "".join(_bar(frame.agent_level for frame in groups.get(column, ())) for column in shown)
    axis = _axis(shown, FRAMES_A_COLUMN * frame_duration)
    return [f"{'you':<{LABEL}}{user}", f"{'agent':<{LABEL}}{agent}", f"{'':<{LABEL}}{axis}"]


def speaking(state: CallState) -> str:
    """Return who speaks."""
    return {
        (True, True): "both speak",
        (True, False): "you speak",
        (False, True): "the agent speaks",
        (False, False): "listening",
    }[state.user_speaks, state.agent_speaks]


def meters(stats: MicrophoneStats, width: int, *, muted: bool) -> list[str]:
    """Return the microphone's and the loudspeaker's meters, with what is wrong and the devices' names."""
    if muted:
        heard = "MUTED"
    elif stats.silent_seconds > SILENT_SECONDS:
        heard = "SILENT: nothing but zeros"
    elif stats.clipped:
        heard = "CLIPPED: lower its level"
    else:
        heard = plain(stats.input_device) or "no device"
    return [
        _meter("mic", stats.input_level, heard, width),
        _meter("out", stats.output_level, plain(stats.output_device) or "no device", width),
    ]


def numbers(state: CallState, stats: MicrophoneStats) -> str:
    """Return latency, lag and echo reduction in one line."""
    parts = [
        f"reply {_seconds(state.reply_seconds)}",
        f"delay {_seconds(state.delay_seconds)}",
        f"buffer {_seconds(stats.buffered_seconds)}",
        f"lost {_seconds(state.lost_seconds)}",
    ]
    if stats.echo_reduction is not None:
        parts.append(f"echo -{stats.echo_reduction:.0f} dB")
    return "  ".join(parts)


def utterance_line(utterance: Utterance) -> str:
    """Return an utterance with the time it began at."""
    said = plain(" ".join(utterance.text.split()))
    if utterance.speaker == "you":
        said = "..." if utterance.end is None else f"({utterance.end - utterance.start:.1f} s)"
    return f"{clock(utterance.start):>5} {utterance.speaker:<{LABEL}}{said}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _share(level: float) -> float:
    """Return a level in dBFS as a share of what a meter shows."""
    return min(max(1 - level / LOWEST_DBFS, 0.0), 1.0)


def _bar(levels: Iterable[float]) -> str:
    return BARS[round(_share(max(levels, default=LOWEST_DBFS)) * (len(BARS) - 1))]


def _meter(name: str, level: float, told: str, width: int) -> str:
    length = max(min(20, width // 4), 4)
    filled = round(_share(level) * length)
    return f"{name} [{'#' * filled}{'-' * (length - filled)}] {level:4.0f} dB  {told}"[:width]


def _axis(columns: range, seconds: float) -> str:
    """Return marks of whole seconds below the columns that they fall into."""
    text = [" "] * len(columns)
    free = 0
    for place, column in enumerate(columns):
        whole = round((column + 1) * seconds - 1e-9) if column >= 0 else -1
        begins = column * seconds <= whole < (column + 1) * seconds
        mark = clock(whole)
        if begins and whole % SECONDS_A_MARK == 0 and place >= free and place + len(mark) <= len(text):
            text[place : place + len(mark)] = mark
            free = place + len(mark) + 1
    return "".join(text)
