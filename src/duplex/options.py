"""What can be chosen about a conversation, and the closed sets of what can be chosen about a model."""

import json
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np

from duplex.arguments import as_float, as_int
from duplex.errors import UsageError
from duplex.parsing import shown

__all__ = [
    "MAX_SESSIONS",
    "SAMPLING",
    "SAYING",
    "Backend",
    "CacheDtype",
    "Dtype",
    "ModelKind",
    "Quantization",
    "SessionOptions",
    "check_sessions",
    "unknown_adapter",
]

Backend: TypeAlias = Literal["auto", "torch", "mlx"]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
Quantization: TypeAlias = Literal["int8", "int4", "fp8"]
CacheDtype: TypeAlias = Literal["auto", "int8"]
ModelKind: TypeAlias = Literal["moshi", "personaplex", "stt", "hibiki", "tts"]
"""What a model is for: dialogue, dialogue with a persona, recognition, translation of speech, synthesis."""


def _optional_integer(value: int | None, field: "attrs.Attribute[Any]") -> int | None:
    return None if value is None else as_int(field.name, value)


def _optional_number(value: float | None, field: "attrs.Attribute[Any]") -> float | None:
    return None if value is None else as_float(field.name, value)


def _boolean(value: bool, field: "attrs.Attribute[Any]") -> bool:
    if not isinstance(value, bool | np.bool_):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{field.name} is {shown(value)}; give True or False")
    return bool(value)


SAMPLING = ("temperature", "text_temperature", "top_k", "text_top_k", "seed", "guidance")
"""Names of options that every session has a value of."""
SAYING = ("codebooks", "padding_between")
"""Names of options that are for texts that are said."""
MAX_SESSIONS = 2**16
"""Conversations side by side; any one machine has memory for fewer."""
MAX_TEXT = 20_000
"""Characters of instructions; a model remembers a few thousand words at most."""


def _optional_text(value: str | None, field: "attrs.Attribute[Any]") -> str | None:
    if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{field.name} is {shown(value)}; give a text")
    if value is not None and len(value) > MAX_TEXT:
        raise UsageError(f"{field.name} has {len(value)} characters; give at most {MAX_TEXT}")
    return value or None


def _optional_voice(value: str | PathLike[str] | None, field: "attrs.Attribute[Any]") -> str | None:
    return _optional_text(str(value) if isinstance(value, PathLike) else value, field)


_INTEGER = attrs.Converter(_optional_integer, takes_field=True)
_NUMBER = attrs.Converter(_optional_number, takes_field=True)
_TEXT = attrs.Converter(_optional_text, takes_field=True)
_VOICE = attrs.Converter(_optional_voice, takes_field=True)
_BOOLEAN = attrs.Converter(_boolean, takes_field=True)


def _optional_range(low: float, high: float) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    """Accept ``None`` or a number from ``low`` to ``high``."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
        if value is not None and not low <= value <= high:
            raise UsageError(f"{attribute.name} is {shown(value)}; give a number from {low:g} to {high:g}")

    return check


@attrs.frozen(kw_only=True)
class SessionOptions:
    """How one conversation's tokens are sampled. ``None`` takes the checkpoint's own default.

    A temperature of 0 is greedy; a top-k of 0 is unlimited. ``greedy`` turns both streams' temperature to 0. Without a
    ``seed`` a live session draws one and tells it in ``SessionStarted``; offline processing uses 0. ``guidance`` is the
    coefficient of classifier-free guidance, for models that take conditions: 1 is without. ``padding_bonus``, usually
    -2 to 2, is added to the logit of padding in the text: above 0 the agent is slower to begin, and speaks more slowly,
    below 0 faster; 0 if left out.

    ``instructions`` are a persona in words, and ``voice`` is a name of the checkpoint's voices, or a file: a recording
    of the voice, or one as its authors publish it. A model that takes none refuses them.

    ``adapter`` is the name of one of the ``adapters`` that the model was loaded with, which is then this session's own.

    For texts that are said (:class:`duplex.Speaker`), and refused elsewhere: so many ``codebooks`` of the model's are
    generated, and the finer ones left out, which is coarser and faster; ``padding_between`` is the least number of
    frames between two words, 1 if left out.

    :raises UsageError: if a value is no number, or out of range
    """

    temperature: float | None = attrs.field(default=None, converter=_NUMBER, validator=_optional_range(0, 100))
    text_temperature: float | None = attrs.field(default=None, converter=_NUMBER, validator=_optional_range(0, 100))
    top_k: int | None = attrs.field(default=None, converter=_INTEGER, validator=_optional_range(0, 2**31))
    text_top_k: int | None = attrs.field(default=None, converter=_INTEGER, validator=_optional_range(0, 2**31))
    seed: int | None = attrs.field(default=None, converter=_INTEGER, validator=_optional_range(0, 2**64 - 1))
    guidance: float | None = attrs.field(default=None, converter=_NUMBER, validator=_optional_range(0, 100))
    codebooks: int | None = attrs.field(default=None, converter=_INTEGER, validator=_optional_range(1, 1024))
    padding_bonus: float | None = attrs.field(default=None, converter=_NUMBER, validator=_optional_range(-100, 100))
    padding_between: int | None = attrs.field(default=None, converter=_INTEGER, validator=_optional_range(0, 1000))
    greedy: bool = attrs.field(default=False, converter=_BOOLEAN)
    instructions: str | None = attrs.field(default=None, converter=_TEXT)
    voice: str | None = attrs.field(default=None, converter=_VOICE)
    adapter: str | None = attrs.field(default=None, converter=_TEXT)

    def with_defaults(self, defaults: "SessionOptions") -> "SessionOptions":
        """Return these options with every ``None`` filled in from ``defaults``, and ``greedy`` applied."""
        filled = {
            name: getattr(defaults, name) if getattr(self, name) is None else getattr(self, name)
            for name in (*SAMPLING, "padding_bonus", *SAYING)
        }
        if self.greedy:
            filled |= {"temperature": 0.0, "text_temperature": 0.0}
        return attrs.evolve(self, **filled)

    def to_json(self) -> str:
        """Return them as a JSON object."""
        return json.dumps(attrs.asdict(self))


def unknown_adapter(name: str, known: Iterable[str]) -> UsageError:
    """Return the error that a model has no adapter of a name for its sessions."""
    names = ", ".join(known)
    there = f"choose one of {names}" if names else "load it with adapters={name: path}, or serve --adapter NAME=PATH"
    return UsageError(f"this model has no adapter {shown(name)} for its sessions; {there}, or leave adapter out")


def check_sessions(sessions: int) -> int:
    """Return how many conversations are to run side by side.

    :raises UsageError: if it is no integer from 1 to ``MAX_SESSIONS``
    """
    number = as_int("sessions", sessions)
    if not 1 <= number <= MAX_SESSIONS:
        raise UsageError(f"sessions is {shown(sessions)}; give 1 or more, up to {MAX_SESSIONS}")
    return number
