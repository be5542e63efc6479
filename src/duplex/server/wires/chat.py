"""``/api/chat``: the wire of Moshi's own clients, of the page, and of :func:`duplex.connect`.

Messages are those of :mod:`duplex.transports.wire`. The address says everything; a client that asks for it is told of
all events. With ``silence=skip`` the agent's silence is left out: clients whose turns end when no audio comes, such as
LiveKit's for PersonaPlex, would never see an end.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.conversation.turns import AgentTurns
from duplex.events import AgentText, Event, UserText
from duplex.parsing import parse_json
from duplex.server.call_parameters import CallParameters
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    CallDescription,
    CallRequest,
    End,
    Finish,
    Interrupt,
    MuteAgent,
    Opening,
    Present,
    PressKey,
    Reply,
    Resumption,
    Wire,
    WireMessage,
)
from duplex.transports import wire

__all__ = ["OF_PERSONAPLEX", "ChatWire"]

OF_PERSONAPLEX: Mapping[str, str] = {"silence": "skip", "persona": "optional"}
"""What an address means that says nothing else, to clients made for PersonaPlex, which write it themselves: they send a
persona that nobody asked for."""
_COUNTED = (wire.Kind.AUDIO, wire.Kind.TEXT, wire.Kind.METADATA, wire.Kind.ERROR)


class ChatWire(Wire):
    """A caller on ``/api/chat``; ``defaults`` are for what the address does not say.

    :raises UsageError: if the address asks for something that makes no sense
    """

    def __init__(self, opening: Opening, defaults: Mapping[str, str] | None = None) -> None:
        parameters = CallParameters.read({**(defaults or {}), **opening.query})
        audio_format = parameters.audio_format
        self.request: CallRequest | None = CallRequest(
            options=parameters.options,
            model=parameters.model,
            heard=audio_format,
            said=audio_format,
            persona_optional=parameters.persona_optional,
            flush_on_pause=parameters.flush_on_pause,
        )
        self.may_pause: bool = parameters.skip_silence
        self._skips_silence = parameters.skip_silence
        self._silent_frames = AgentTurns.END_FRAMES
        self.resumes: bool = parameters.events
        self._events = parameters.events
        self._recognition = False

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a message; what is of an unknown kind means nothing."""
        if isinstance(message, str):
            return (End(CloseReason.NOT_BINARY),)
        parsed = wire.parse(message)
        match parsed.kind if parsed is not None else None, parsed:
            case wire.Kind.AUDIO, wire.Message(payload=payload):
                return (Audio(payload),)
            case wire.Kind.PING, _:
                return Present(), Reply(wire.ping())  # who asks can tell how long it takes
            case wire.Kind.METADATA, wire.Message(payload=payload):
                return _wishes(payload)
            case _:
                return ()

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Note what the model does, and tell what it cannot take."""
        self._recognition = description.recognition
        if not description.left_out:
            return ()
        return (wire.metadata({"type": "LeftOut", "reasons": [*description.left_out]}),)

    def waiting(self, position: int) -> Iterable[WireMessage]:
        """Tell how many are before."""
        return (wire.metadata({"type": "Queued", "position": position}),)

    def keep_alive(self) -> Iterable[WireMessage]:
        """Say that the line is alive."""
        return (wire.ping(),)

    def started(self, header: bytes) -> Iterable[WireMessage]:
        """Say that the conversation begins."""
        return (wire.handshake(), wire.audio(header)) if header else (wire.handshake(),)

    def resumable(self, resumption: Resumption) -> Iterable[WireMessage]:
        """Tell the token to go on with."""
        told = attrs.asdict(resumption, filter=lambda field, _: field.name != "token")
        return (wire.metadata({"type": "Session", "resume": resumption.token, **told}),)

    def moved(self, url: str) -> Iterable[WireMessage]:
        """Tell where it goes on."""
        return (wire.metadata({"type": "Moved", "url": url}),)

    def counts(self, message: WireMessage) -> bool | None:
        """Count what carries sound, words or events."""
        kind = message[0] if message else None
        return kind == wire.Kind.AUDIO if kind in _COUNTED else None

    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell the agent's words, what a recogniser writes, and all events to a client that wants them."""
        if isinstance(event, AgentText):
            yield wire.text(event.text)
        elif isinstance(event, UserText) and self._recognition:
            yield wire.text(f" {event.text}")
        if self._events:
            yield wire.metadata(event.as_dict())

    def wants(self, pcm: NDArray[np.float32]) -> bool:
        """Tell whether a frame is sent; a silence is one after as many frames as end the agent's speech."""
        if not self._skips_silence:
            return True
        self._silent_frames = 0 if level_dbfs(pcm) > AgentTurns.LEVEL else self._silent_frames + 1
        return self._silent_frames < AgentTurns.END_FRAMES

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- coded already
        """Send the agent's frame."""
        return (wire.audio(payload),)

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say what went wrong, if something did."""
        return () if reason in (CloseReason.FINISHED, CloseReason.MOVED) else (wire.error(text),)


def _wishes(payload: bytes) -> Iterable[Action]:
    """Return what a caller asks for beside the audio; what is unknown is ignored."""
    record = _record(payload)
    match record.get("type"):
        case "Finish":
            return (Finish(),)
        case "Interrupt":
            return (Interrupt(),)
        case "MuteAgent":
            return (MuteAgent(record.get("muted") is not False),)
        case "PressKey":
            return (PressKey(str(record.get("key"))),)
        case _:
            return ()


def _record(payload: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a caller has sent; an empty one if it is none."""
    try:
        record: Any = parse_json(payload)
    except ValueError:
        return {}
    return cast("dict[str, Any]", record) if isinstance(record, dict) else {}
