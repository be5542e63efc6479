"""Audio formats by the names that OpenAI's protocols give them."""

from collections.abc import Mapping

from duplex.audio.wire_codecs import AudioFormat
from duplex.events import JsonValue
from duplex.server.wires.json_messages import BadMessage, Record

__all__ = ["FORMATS", "format_resource", "read_audio", "read_format"]

MAX_AUDIO_SECONDS = 10.0
"""Of sound in one message."""

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


def read_audio(record: Record, audio_format: AudioFormat) -> bytes:
    """Return the sound of a message, in its format.

    :raises BadMessage: if it is none, ends within a sample, or is too much at once
    """
    payload = record.audio("audio")
    width = 2 if audio_format.encoding == "pcm" else 1
    if len(payload) % width:
        raise BadMessage("invalid_value", f"{len(payload)} bytes are not whole samples of 16 bit", "audio")
    if len(payload) > MAX_AUDIO_SECONDS * width * (audio_format.sample_rate or 0):
        text = f"a message has over {MAX_AUDIO_SECONDS:g} s of sound; send it in pieces, at the pace of a clock"
        raise BadMessage("invalid_value", text, "audio")
    return payload


def format_resource(audio_format: AudioFormat) -> dict[str, JsonValue]:
    """Return a format as a client is told it."""
    name = next(name for name, formats in FORMATS.items() if audio_format in formats)
    return {"type": name, "rate": audio_format.sample_rate}
