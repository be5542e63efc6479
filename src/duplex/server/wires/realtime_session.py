"""The session of ``/v1/realtime``: what a client asks for by ``session.update``, and what it is told it has.

1. Until the conversation is asked for, everything can change; from then on how turns are told, and nothing else.
2. What a client is told is what is in force, not what it asked for; ``left_out`` has a sentence for what is missing.
   It is a field of our own, as is ``synthetic``, which says that the agent's voice is synthetic speech: clients pass
   over them, while an ``error`` ends programs that have no listener for one.

The names are those of OpenAI's Realtime API, as ``openai.types.realtime`` has them.
"""

import attrs

from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import UsageError
from duplex.events import JsonValue
from duplex.options import SessionOptions
from duplex.server.wires.base import CallDescription, CallRequest
from duplex.server.wires.json_messages import BadMessage, Record
from duplex.server.wires.openai_audio import FORMATS, format_resource, read_format

__all__ = ["RealtimeSession", "TurnDetection"]

_DETECTORS = ("server_vad", "semantic_vad")
_PCM = FORMATS["audio/pcm"][0]


@attrs.frozen
class TurnDetection:
    """Which turns of the user are told: clients stop the agent's audio at each."""

    kind: str = "server_vad"
    always: bool = False
    """Also those that begin while the agent speaks, which the model itself takes as people do."""

    def resource(self) -> dict[str, JsonValue]:
        """Return what a client is told."""
        return {"type": self.kind, "create_response": True, "interrupt_response": self.always}


@attrs.frozen(kw_only=True)
class _Wishes:
    """What a client has asked for so far."""

    model: str | None = None
    options: SessionOptions = attrs.field(factory=SessionOptions)
    heard: AudioFormat = _PCM
    said: AudioFormat = _PCM
    turn_detection: TurnDetection | None = attrs.field(factory=TurnDetection)
    transcription: dict[str, JsonValue] | None = None


@attrs.define
class RealtimeSession:
    """One client's session; ``model`` is the one that its address names."""

    id: str
    model: str | None
    settled: bool = False
    """Whether the conversation has been asked for."""
    description: CallDescription | None = None
    """What the client has got, once that is known."""
    position: int = 0
    """In the queue, from 1; 0 is one who does not wait."""
    _wishes: _Wishes = attrs.Factory(_Wishes)
    _left_out: tuple[str, ...] = ()

    @property
    def turn_detection(self) -> TurnDetection | None:
        """Which turns of the user are told, ``None`` for none."""
        return self._wishes.turn_detection

    @property
    def transcribes(self) -> bool:
        """Whether the user's words are told."""
        recognition = self.description is not None and self.description.recognition
        return recognition or self._wishes.transcription is not None

    @property
    def heard(self) -> AudioFormat:
        """The format of the client's audio."""
        return self._wishes.heard

    def update(self, given: Record) -> None:
        """Take a ``session.update``.

        :raises BadMessage: if something in it makes no sense; nothing is changed then
        """
        wishes, left_out = _read(given, self._wishes), _unknown_here(given)
        if self.settled:
            for name in ("model", "options", "heard", "said"):
                if getattr(wishes, name) != getattr(self._wishes, name):
                    left_out.append(f"{_SAID_AS[name]} cannot change during a conversation")
            wishes = attrs.evolve(
                self._wishes, turn_detection=wishes.turn_detection, transcription=wishes.transcription
            )
        self._wishes, self._left_out = wishes, tuple(left_out)

    def request(self) -> CallRequest:
        """Return what the client asks for; from now on that stands."""
        self.settled = True
        wishes = self._wishes
        return CallRequest(
            options=wishes.options,
            model=self.model or wishes.model,
            heard=wishes.heard,
            said=wishes.said,
            lenient=True,
        )

    def resource(self) -> dict[str, JsonValue]:
        """Return what the client is told: what is in force, as far as that is known."""
        wishes, got = self._wishes, self.description
        options = wishes.options if got is None else got.options
        left_out: list[JsonValue] = [*(() if got is None else got.left_out), *self._left_out]
        if self.position:
            left_out.append(f"every place is taken: you are number {self.position} in the queue, and not heard yet")
        detection = wishes.turn_detection
        heard: dict[str, JsonValue] = {
            "format": format_resource(wishes.heard),
            "transcription": wishes.transcription,
            "noise_reduction": None,
            "turn_detection": None if detection is None else detection.resource(),
        }
        said: dict[str, JsonValue] = {
            "format": format_resource(wishes.said),
            "voice": options.voice or "default",
            "speed": 1.0,
        }
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": self.id,
            "model": self.model or wishes.model or "default" if got is None else got.model,
            "output_modalities": ["audio"],
            "instructions": options.instructions or "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "prompt": None,
            "audio": {"input": heard, "output": said},
            "synthetic": got is None or not got.recognition,
            "left_out": left_out,
        }


_SAID_AS = {
    "model": "the model",
    "options": "instructions and voice",
    "heard": "the format of the user's audio",
    "said": "the format of the agent's audio",
}


def _read(given: Record, before: _Wishes) -> _Wishes:
    if given.text("type", "realtime") != "realtime":
        raise given.wrong("type", "realtime, which is the only type of session here")
    audio = given.record("audio")
    heard, said = audio.record("input"), audio.record("output")
    texts = {"instructions": given.text("instructions"), "voice": _voice(said)}
    try:
        changes = {name: text if text.strip() else None for name, text in texts.items() if text is not None}
        options = attrs.evolve(before.options, **changes)
    except UsageError as error:
        raise BadMessage("invalid_value", str(error), given.at("instructions")) from None
    return _Wishes(
        model=given.text("model", before.model),
        options=options,
        heard=_format(heard, before.heard),
        said=_format(said, before.said),
        turn_detection=_turn_detection(heard) if "turn_detection" in heard.values else before.turn_detection,
        transcription=_transcription(heard) if "transcription" in heard.values else before.transcription,
    )


def _unknown_here(given: Record) -> list[str]:
    """Return what a client asks for that no model here does, a sentence each."""
    left_out: list[str] = []
    if given.items("tools"):
        left_out.append("the model calls no tools")
    modalities = given.items("output_modalities")
    if modalities and "audio" not in modalities:
        left_out.append("the model speaks: there are no answers in text alone")
    if given.values.get("prompt") is not None:
        left_out.append("there are no stored prompts here; send instructions")
    return left_out


def _voice(said: Record) -> str | None:
    return said.record("voice").text("id") if isinstance(said.values.get("voice"), dict) else said.text("voice")


def _format(direction: Record, before: AudioFormat) -> AudioFormat:
    return before if direction.values.get("format") is None else read_format(direction.record("format"))


def _turn_detection(heard: Record) -> TurnDetection | None:
    if heard.values["turn_detection"] is None:
        return None
    given = heard.record("turn_detection")
    kind = given.text("type", _DETECTORS[0])
    if kind not in _DETECTORS:
        raise given.wrong("type", f"one of {', '.join(_DETECTORS)}")
    interrupts = given.values.get("interrupt_response")
    if not isinstance(interrupts, bool | None):
        raise given.wrong("interrupt_response", "true or false")
    return TurnDetection(kind, always=interrupts is True)


def _transcription(heard: Record) -> dict[str, JsonValue] | None:
    if heard.values["transcription"] is None:
        return None
    given = heard.record("transcription")
    return {name: given.text(name) for name in ("model", "language") if given.text(name) is not None}
