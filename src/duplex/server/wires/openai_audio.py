"""Audio formats by the names that OpenAI's protocols give them."""

from collections.abc import Mapping

from duplex.audio.wire_codecs import AudioFormat
from duplex.events import JsonValue
from duplex.server.wires.json_messages import Record

__all__ = ["FORMATS", "format_resource", "read_format"]

FORMATS: Mapping[str, tuple[AudioFormat, ...]] = {
    "audio/pcm": (AudioFormat("pcm", 24000), AudioFormat("pcm", 16000)),
    "audio/pcmu": (AudioFormat("mulaw", 8000),),
    "audio/pcma": (AudioFormat("alaw", 8000),),
}
"""The formats by their names, each with its rates; the first is taken where none is given."""


def read_format(given: Record) -> AudioFormat:
    """Return the audio format that a client names.

    :raises BadMessage: if there is none of that name or rate
    """
    name = given.text("type", "audio/pcm")
    formats = FORMATS.get(name or "")
    if formats is None:
        raise given.wrong("type", f"one of {', '.join(FORMATS)}")
    rate = given.values.get("rate")
    if rate is None:
        return formats[0]
    for each in formats:
        if type(rate) is int and rate == each.sample_rate:
            return each
    raise given.wrong("rate", " or ".join(str(each.sample_rate) for each in formats))


def format_resource(audio_format: AudioFormat) -> dict[str, JsonValue]:
    """Return a format as a client is told it; those of telephones have one rate, which is not said."""
    name = next(name for name, formats in FORMATS.items() if audio_format in formats)
    return {"type": name, "rate": audio_format.sample_rate} if len(FORMATS[name]) > 1 else {"type": name}
