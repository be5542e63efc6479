"""Transcripts as files: JSON, plain text, and subtitles.

A subtitle has the words up to ``LONGEST`` seconds or ``WIDEST`` letters, and ends before a silence of ``PAUSE`` seconds
or after a word that ends a sentence. It is shown for ``SHORTEST`` seconds at least, if the next one leaves the time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from duplex.conversation.transcript import Chunk, TranscriptJson

__all__ = ["FORMATS", "SUBTITLES", "TranscriptFormat", "as_file", "render"]

TranscriptFormat: TypeAlias = Literal["json", "srt", "vtt", "text"]
SUBTITLES: Mapping[TranscriptFormat, str] = {
    "srt": "user_transcript.srt",
    "vtt": "user_transcript.vtt",
    "text": "user_transcript.txt",
}
LONGEST = 6.0
WIDEST = 80
PAUSE = 1.0
SHORTEST = 0.3
SENTENCE_ENDS = (".", "?", "!", "…", "\u3002", "\uff1f", "\uff01")
"""The last three are the full-width ones."""


@attrs.frozen
class _Subtitle:
    text: str
    start: float
    end: float


def as_file(transcript: TranscriptJson) -> bytes:
    """Return a transcript as the bytes of a JSON file."""
    return (json.dumps(transcript, ensure_ascii=False, indent=1) + "\n").encode(errors="replace")


def render(transcript: TranscriptJson, form: TranscriptFormat) -> bytes:
    """Return a transcript as the bytes of a file in a format."""
    return FORMATS[form](transcript)


def _as_text(transcript: TranscriptJson) -> bytes:
    return (transcript["text"] + "\n").encode(errors="replace")


def _as_srt(transcript: TranscriptJson) -> bytes:
    blocks = [
        f"{number}\n{_clock(subtitle.start, ',')} --> {_clock(subtitle.end, ',')}\n{subtitle.text}\n"
        for number, subtitle in enumerate(_subtitles(transcript["chunks"]), 1)
    ]
    return "\n".join(blocks).encode(errors="replace")


def _as_vtt(transcript: TranscriptJson) -> bytes:
    blocks = [
        f"{_clock(subtitle.start, '.')} --> {_clock(subtitle.end, '.')}\n{_escaped(subtitle.text)}\n"
        for subtitle in _subtitles(transcript["chunks"])
    ]
    return "\n".join(["WEBVTT\n", *blocks]).encode(errors="replace")


FORMATS: Mapping[TranscriptFormat, Callable[[TranscriptJson], bytes]] = {
    "json": as_file,
    "srt": _as_srt,
    "vtt": _as_vtt,
    "text": _as_text,
}


def _subtitles(chunks: Sequence[Chunk]) -> list[_Subtitle]:
    lines: list[list[Chunk]] = []
    for chunk in chunks:
        if lines and _belongs(lines[-1], chunk):
            lines[-1].append(chunk)
        else:
            lines.append([chunk])
    starts = [line[0]["timestamp"][0] for line in lines]
    found: list[_Subtitle] = []
    for line, start, following in zip(lines, starts, [*starts, float("inf")][1:], strict=True):
        end = max(chunk["timestamp"][1] for chunk in line)
        shown = max(min(max(end, start + SHORTEST), following), start)
        text = " ".join(" ".join(chunk["text"] for chunk in line).split())  # an empty line would end the subtitle
        found.append(_Subtitle(text, start, shown))
    return found


def _belongs(line: Sequence[Chunk], chunk: Chunk) -> bool:
    """Tell whether a word goes on a line."""
    start, end = chunk["timestamp"]
    width = sum(len(each["text"]) + 1 for each in line) + len(chunk["text"])
    return (
        width <= WIDEST
        and end - line[0]["timestamp"][0] <= LONGEST
        and start - line[-1]["timestamp"][1] < PAUSE
        and not line[-1]["text"].endswith(SENTENCE_ENDS)
    )


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
