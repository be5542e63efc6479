"""What a caller asks for in the websocket's address."""

from collections.abc import Mapping
from typing import Any

import attrs

from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.parsing import LONGEST_NUMBER, shown

__all__ = ["CallParameters"]


@attrs.frozen(kw_only=True)
class CallParameters:
    """What a caller asks for in the address."""

    options: SessionOptions = attrs.field(factory=SessionOptions)
    audio_format: AudioFormat = attrs.field(factory=AudioFormat)
    events: bool = False
    model: str | None = None
    skip_silence: bool = False
    """Whether silence is not sent, by either side."""
    persona_optional: bool = False
    """Whether a persona that the model cannot take is left out."""
    flush_on_pause: bool = False
    """Whether a recognition model tells the last words as soon as the caller stops."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "CallParameters":
        """Read a query: our own words and those of the original's page; what is unknown is ignored.

        :raises UsageError: if a value makes no sense
        """
        values: dict[str, Any] = {}
        for name, (words, kind) in _OPTIONS.items():
            given = next((query[word] for word in words if query.get(word)), None)
            if given is not None:
                values[name] = _number(name, given, kind)
        for name, words in _TEXTS.items():
            values[name] = next((query[word] for word in words if query.get(word)), None)
        if values.get("seed", 0) < 0:
            del values["seed"]  # the original's page: any
        encoding = query.get("format", "opus")
        if encoding not in ("opus", "pcm"):
            raise UsageError(f"there is no audio format {shown(encoding)}; ask for 'opus' or 'pcm'")
        silence = _word(query, "silence", "keep", "skip")
        persona = _word(query, "persona", "required", "optional")
        flush = _word(query, "flush_on_pause", "false", "true")
        return cls(
            options=SessionOptions(**values),
            audio_format=AudioFormat(encoding),
            events=query.get("events") == "full",
            model=query.get("model"),
            skip_silence=silence == "skip",
            persona_optional=persona == "optional",
            flush_on_pause=flush == "true",
        )


_OPTIONS: Mapping[str, tuple[tuple[str, ...], type[int] | type[float]]] = {
    "temperature": (("temperature", "audio_temperature"), float),
    "text_temperature": (("text_temperature",), float),
    "top_k": (("top_k", "audio_topk"), int),
    "text_top_k": (("text_top_k", "text_topk"), int),
    "seed": (("seed", "audio_seed"), int),
    "padding_bonus": (("padding_bonus",), float),
}
"""The words that a query may have for each option: ours, and that of the original's page."""


_TEXTS: Mapping[str, tuple[str, ...]] = {
    "instructions": ("instructions", "text_prompt"),
    "voice": ("voice", "voice_prompt"),
    "adapter": ("adapter",),
}
"""Ours, and those of PersonaPlex's clients."""


def _word(query: Mapping[str, str], name: str, usual: str, other: str) -> str:
    """Return one of two words, the usual one if none is given."""
    given = query.get(name) or usual
    if given not in (usual, other):
        raise UsageError(f"{name} is {shown(given)}; give '{usual}' or '{other}'")
    return given


def _number(name: str, given: str, kind: type[int] | type[float]) -> int | float:
    try:
        if len(given) <= LONGEST_NUMBER:
            return kind(given)
    except ValueError:
        pass
    raise UsageError(f"{name} is {shown(given)}; give a number")
