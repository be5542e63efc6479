"""What a client of OpenAI's ``/v1/audio/speech`` asks for: a text, and how it is to be said. No sockets.

What no model here can do is refused by name. Two things stand for what is here: OpenAI's names of models for the first
that says texts, and its names of voices for that which the model has without one.
"""

from collections.abc import Mapping
from typing import Any, cast

import attrs

from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.server.speech_sound import SOUNDS
from duplex.server.wires.json_messages import BadMessage, Record

__all__ = ["LONGEST_TEXT", "SpeechRequest"]

LONGEST_TEXT = 4096
"""Characters, as OpenAI has it."""
_MODELS_OF_OPENAI = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
_VOICES_OF_OPENAI = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)
_OPTIONS: Mapping[str, type[int] | type[float]] = {
    "seed": int,
    "temperature": float,
    "text_temperature": float,
    "top_k": int,
    "text_top_k": int,
    "guidance": float,
    "codebooks": int,
    "padding_bonus": float,
    "padding_between": int,
}
"""Ours, beside OpenAI's words: those of :class:`duplex.SessionOptions` that mean something for a text."""


@attrs.frozen(kw_only=True)
class SpeechRequest:
    """A text that is to be said."""

    text: str
    model: str | None
    """``None`` is the first that says texts."""
    voice: str | None
    """``None`` is that which the model has without one."""
    sound: str
    """``"wav"``, ``"pcm"`` or ``"opus"``."""
    events: bool
    """Whether sound comes in server-sent events, with the words between it."""
    options: SessionOptions

    @classmethod
    def read(cls, body: bytes) -> "SpeechRequest":
        """Read a request's JSON.

        :raises BadMessage: if it is none, or asks for what nobody can do here
        """
        try:
            value: Any = parse_json(body)
        except ValueError as error:
            raise BadMessage("invalid_json", f"the body is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise BadMessage("invalid_json", "the body is no JSON object; send model, input and voice")
        given = Record(cast("dict[str, Any]", value))
        model, voice = given.text("model"), given.text("voice")
        return cls(
            text=_text(given),
            model=None if model in _MODELS_OF_OPENAI else model,
            voice=None if voice in (*_VOICES_OF_OPENAI, "default") else voice,
            sound=_choice(given, "response_format", "wav", tuple(SOUNDS)),
            events=_choice(given, "stream_format", "audio", ("audio", "sse")) == "sse",
            options=_options(given),
        )


def _text(given: Record) -> str:
    text = given.text("input") or ""
    if not text.strip():
        raise BadMessage("invalid_value", "there is nothing to say; send a text with a word in it as input", "input")
    if len(text) > LONGEST_TEXT:
        raise BadMessage(
            "string_above_max_length",
            f"input has {len(text)} characters; send at most {LONGEST_TEXT}, and the rest in requests of its own",
            "input",
        )
    if given.text("instructions"):
        raise BadMessage("unsupported_value", "the models here take no instructions; leave them out", "instructions")
    if given.values.get("speed") not in (None, 1):
        raise BadMessage(
            "unsupported_value",
            "speed changes nothing here; leave it out, and give padding_bonus: above 0 speech is slower, below faster",
            "speed",
        )
    return text


def _choice(given: Record, name: str, usual: str, known: tuple[str, ...]) -> str:
    chosen = given.text(name, usual)
    if chosen not in known:
        raise BadMessage("unsupported_value", f"{name} is {chosen!r:.40}; ask for {' or '.join(known)}", name)
    return chosen


def _options(given: Record) -> SessionOptions:
    values = {name: given.values[name] for name in _OPTIONS if given.values.get(name) is not None}
    for name, value in values.items():
        kinds = (int,) if _OPTIONS[name] is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise given.wrong(name, "a whole number" if _OPTIONS[name] is int else "a number")
    try:
        return SessionOptions(**values)
    except UsageError as error:
        raise BadMessage("invalid_value", str(error)) from None
