"""The session of ``/v1/live/sessions``: what a client asks for in ``session.start``, and what it is told it has.

The names are those of OpenAI's Live API, as the types of the package ``openai`` have them (``openai.types.live``).
"""

from duplex.events import JsonValue
from duplex.options import SessionOptions
from duplex.server.wires.base import CallDescription, CallRequest
from duplex.server.wires.json_messages import BadMessage, Record
from duplex.server.wires.openai_audio import FORMATS, read_format

__all__ = ["not_heard", "read_request", "session_resource"]

_UNLIMITED_SECONDS = 24 * 3600
"""That a session is said to last where the server sets no limit: the field is required."""


def read_request(session: Record) -> CallRequest:
    """Return what a client asks for.

    :raises BadMessage: if something in it makes no sense
    """
    model = session.text("model")
    if not model:
        raise BadMessage("missing_parameter", "session.model is missing; name a model of /v1/models", "session.model")
    audio = session.record("audio")
    audio_format = read_format(audio.record("format"))
    instructions = session.text("instructions")
    return CallRequest(
        options=SessionOptions(
            instructions=instructions if instructions and instructions.strip() else None,
            voice=_voice(audio.record("output")),
        ),
        model=model,
        heard=audio_format,
        said=audio_format,
        lenient=True,
    )


def not_heard(session: Record) -> list[str]:
    """Return what a client asks for that no model here does, a sentence each.

    :raises BadMessage: if something in it makes no sense
    """
    found: list[str] = []
    if session.items("input"):
        found.append("session.input is not heard: these models know nothing of what was said before")
    delegation = session.record("delegation").text("type", "client")
    if delegation != "client":
        found.append(f"delegation to {delegation} is not done here: these models delegate nothing")
    if session.items("triggers"):
        found.append("triggers are not run here")
    return found


def session_resource(
    session_id: str, began: float, request: CallRequest, description: CallDescription
) -> dict[str, JsonValue]:
    """Return what a client has got, as a ``SessionResource``; ``began`` is in seconds since 1970.

    ``synthetic``, which is our own, says that the agent's voice is synthetic speech.

    Live has no word for the Opus of other wires; an observer, who hears samples, is told of samples.
    """
    options, audio_format = description.options, request.said
    if audio_format.encoding == "opus":
        audio_format = FORMATS["audio/pcm"][0]
    name = next((name for name, formats in FORMATS.items() if audio_format in formats), "audio/pcm")
    return {
        "id": session_id,
        "model": description.model,
        "status": "active",
        "expires_at": int(began + (description.seconds or _UNLIMITED_SECONDS)),
        "instructions": options.instructions,
        "synthetic": not description.recognition,
        "audio": {
            "format": {"type": name, "rate": audio_format.sample_rate or description.sample_rate},
            "output": {"voice": "default" if options.voice is None else str(options.voice)},
        },
    }


def _voice(output: Record) -> str | None:
    if isinstance(output.values.get("voice"), dict):
        return output.record("voice").text("id")
    return output.text("voice")
