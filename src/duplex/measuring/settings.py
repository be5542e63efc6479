"""What decides the measures of a dialogue, beside the dialogue itself."""

from typing import Any, Literal, TypeAlias, get_args

import attrs

from duplex.errors import UsageError

__all__ = ["Detector", "Settings"]

Detector: TypeAlias = Literal["silero", "level"]
"""What finds speech: Silero VAD, or the level alone (for recordings without noise)."""

LONGEST = 60.0
QUIETEST, LOUDEST = -120.0, 0.0


def _seconds(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not 0 <= value <= LONGEST:
        raise UsageError(f"{attribute.name} is {value}; give seconds from 0 to {LONGEST:g}")


def _decibels(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not QUIETEST <= value <= LOUDEST:
        raise UsageError(f"{attribute.name} is {value}; give dBFS from {QUIETEST:g} to {LOUDEST:g}")


def _detector(_: object, __: object, value: str) -> None:
    if value not in get_args(Detector):
        raise UsageError(f"detector is {value!r}; give one of {', '.join(get_args(Detector))}")


@attrs.frozen(kw_only=True)
class Settings:
    """Thresholds of the definitions, in seconds, and the detector of speech.

    :raises UsageError: if a value is out of range
    """

    minimum_silence: float = attrs.field(default=0.2, validator=_seconds)
    """A shorter silence of a speaker does not end an inter-pausal unit."""
    minimum_speech: float = attrs.field(default=0.1, validator=_seconds)
    """A shorter sound is no inter-pausal unit."""
    turn_silence: float = attrs.field(default=1.0, validator=_seconds)
    """A shorter silence of a speaker does not end a turn."""
    longest_backchannel: float = attrs.field(default=1.0, validator=_seconds)
    """A longer turn is no backchannel."""
    shortest_interruption: float = attrs.field(default=0.2, validator=_seconds)
    """A shorter overlap does not make an interruption: it is one at the end of a turn, which both saw coming."""
    detector: Detector = attrs.field(default="silero", validator=_detector)
    level: float = attrs.field(default=-45.0, validator=_decibels)
    """The detector ``level`` takes 10 ms above this for speech, in dBFS."""

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON holds them."""
        return attrs.asdict(self)
