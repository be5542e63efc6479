"""Words and their times."""

import pytest

from duplex.conversation.transcript import Transcript

PADDING, END, PIECE = 3, 0, 7
FRAME = 0.08


def spoken(*pieces):
    """A transcript of one token a frame: text, or a token that gives none."""
    transcript = Transcript(PADDING, END, FRAME)
    for frame, piece in enumerate(pieces):
        if isinstance(piece, int):
            transcript.feed(piece, "", frame * FRAME)
        else:
            transcript.feed(PIECE, piece, frame * FRAME)
    return transcript


def words(transcript):
    return [(chunk["text"], *chunk["timestamp"]) for chunk in transcript.as_json()["chunks"]]


def test_nothing():
    assert Transcript(PADDING, END, FRAME).as_json() == {"text": "", "chunks": []}
    assert spoken(PADDING, PADDING, END).as_json() == {"text": "", "chunks": []}


def test_the_shape():
    transcript = spoken(PADDING, END, " Hello", PADDING)
    assert transcript.as_json() == {"text": "Hello", "chunks": [{"text": "Hello", "timestamp": [0.16, 0.24]}]}


@pytest.mark.parametrize("ending", [PADDING, END])
def test_a_word_ends_at_padding(ending):
    assert words(spoken(" north", "ern", ending, ending)) == [("northern", 0, 0.16)]


def test_a_word_ends_where_the_next_begins():
    transcript = spoken(" how", " are", " you", PADDING, "?")
    transcript.finish(0.4)
    assert words(transcript) == [("how", 0, 0.08), ("are", 0.08, 0.16), ("you", 0.16, 0.24), ("?", 0.32, 0.4)]
    assert transcript.as_json()["text"] == "how are you?"


def test_the_first_piece_begins_a_word():
    assert words(spoken("ing", " on")) == [("ing", 0, 0.08), ("on", 0.08, 0.16)]


def test_silent_tokens_change_nothing():
    assert words(spoken(" caf", 1, 200, "é", PADDING)) == [("café", 0, 0.32)]


def test_a_lone_space_begins_the_word_that_follows():
    assert words(spoken(" ", "猫", PADDING)) == [("猫", 0, 0.16)]


def test_spaces_alone_are_no_word():
    assert spoken(" ", PADDING, " ", " ", END).as_json() == {"text": "", "chunks": []}


def test_a_broken_character_before_a_word():
    transcript = spoken(" a", "\ufffd the", PADDING)
    assert words(transcript) == [("a\ufffd", 0, 0.08), ("the", 0.08, 0.16)]
    assert words(spoken("\ufffd the", PADDING)) == [("\ufffd", 0, 0), ("the", 0, 0.08)]


def test_a_word_that_goes_on():
    transcript = spoken(PADDING, " north", "ern")
    assert words(transcript) == [("northern", 0.08, 0.24)]
    transcript.feed(PIECE, "most", 0.24)
    transcript.finish(0.5)
    transcript.finish(0.5)
    assert words(transcript) == [("northernmost", 0.08, 0.5)]


def test_times_are_whole_milliseconds():
    assert words(spoken(*[PADDING] * 3, " a", PADDING)) == [("a", 0.24, 0.32)]
