"""Transcripts as files: what goes on a subtitle, for how long, and what a transcript without words becomes."""

import pytest

from duplex.errors import UsageError
from duplex.process.transcription import checked_formats
from duplex.results.subtitles import FORMATS, LONGEST, SHORTEST, WIDEST, render


def transcript(*words):
    chunks = [{"text": text, "timestamp": (start, end)} for text, start, end in words]
    return {"text": " ".join(text for text, _, _ in words), "chunks": chunks}


def cues(*words):
    """Return the times and the text of each subtitle."""
    blocks = render(transcript(*words), "srt").decode().strip().split("\n\n")
    return [tuple(block.split("\n")[1:]) for block in blocks if block]


@pytest.mark.parametrize(
    ("form", "expected"),
    [("srt", b""), ("vtt", b"WEBVTT\n"), ("text", b"\n"), ("json", b'{\n "text": "",\n "chunks": []\n}\n')],
)
def test_no_words(form, expected):
    assert render(transcript(), form) == expected


def test_a_sentence_or_a_silence_ends_a_subtitle():
    found = cues(("Yes.", 0.0, 0.5), ("And", 0.5, 0.8), ("then", 0.9, 1.2), ("no", 2.2, 2.5))
    assert [text for _, text in found] == ["Yes.", "And then", "no"]
    assert [times for times, _ in found] == [
        "00:00:00,000 --> 00:00:00,500",
        "00:00:00,500 --> 00:00:01,200",
        "00:00:02,200 --> 00:00:02,500",
    ]


def test_a_subtitle_is_neither_too_long_nor_too_wide():
    slow = [("word", float(n), n + 0.9) for n in range(20)]
    assert all(len(text.split()) <= LONGEST for _, text in cues(*slow))
    fast = [("letters", n / 10, n / 10 + 0.1) for n in range(50)]
    assert all(len(text) <= WIDEST for _, text in cues(*fast))
    assert sum(len(text.split()) for _, text in cues(*fast)) == len(fast)


def test_it_is_shown_long_enough_to_be_read_but_not_into_the_next():
    (times, _), (following, _) = cues(("a.", 1.0, 1.0), ("b.", 1.2, 1.2))
    assert times == "00:00:01,000 --> 00:00:01,200"
    assert following == f"00:00:01,200 --> 00:00:01,{round((0.2 + SHORTEST) * 1000)}"


def test_what_a_format_would_misread_is_no_part_of_a_word():
    assert [text for _, text in cues(("a\n\nb", 0.0, 1.0))] == ["a b"]
    assert b"&lt;b&gt; &amp;" in render(transcript(("<b> &", 0.0, 1.0)), "vtt")


def test_formats_are_checked_and_told_once():
    assert checked_formats(["vtt", "json", "vtt"]) == ["json", "vtt"]
    with pytest.raises(UsageError, match="docx"):
        checked_formats(["json", "docx"])
    assert set(FORMATS) == {"json", "srt", "vtt", "text"}
