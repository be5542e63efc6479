"""Texts as they come to a speaker: cut anywhere, in other scripts, without words or ends, and sources that raise."""

import anyio
import anyio.lowlevel
import pytest

from duplex.conversation.spoken_text import Pieces
from duplex.errors import UsageError
from duplex.synthesis.script import ScriptReader

pytestmark = pytest.mark.anyio
TEXT = 'Hello, how\tare   you <break time="0.4s"/> this < that\n<break time="1s"/>morning?'


class Letters:
    """A tokenizer that knows ASCII: a piece for the beginning, and one a letter."""

    def encode(self, text):
        return [4, *(ord(letter) if ord(letter) < 128 else 0 for letter in text)]


async def read(text):
    """Return the entries of a text, read piece by piece."""
    pieces, reader, found = Pieces(text), ScriptReader(Letters(), 12.5, speakers=False), []
    try:
        while (piece := await pieces.next()) is not None:
            found += reader.turn(piece[1], piece[0])
    finally:
        await pieces.aclose()
    return found, reader


async def streamed(parts):
    for part in parts:
        await anyio.lowlevel.checkpoint()
        yield part


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 100])
async def test_the_same_entries_however_it_is_cut(size):
    whole = ScriptReader(Letters(), 12.5, speakers=False).turn(TEXT)
    assert [entry.text for entry in whole] == ["Hello,", "how", "are", "you", "", "this", "<", "that", "", "morning?"]
    found, _ = await read(streamed([TEXT[start : start + size] for start in range(0, len(TEXT), size)]))
    assert found == whole


async def test_what_is_no_break_does_not_hold_the_text_back():
    pieces = Pieces(streamed(["if a < b then ", "go on ", "and on"]))
    assert await pieces.next() == (0, "if a < b then ")
    assert await pieces.next() == (0, "go on ")
    await pieces.aclose()


async def test_long_texts_and_turns():
    words = [f"w{number}" for number in range(20_000)]
    found, _ = await read(" ".join(words))
    assert [entry.text for entry in found] == words
    pieces, turns = Pieces(["one two", "", "three"]), []
    while (piece := await pieces.next()) is not None:
        turns.append(piece)
    assert [(speaker, text) for speaker, text in turns if text.strip()] == [(0, "one "), (0, "two"), (0, "three")]


@pytest.mark.parametrize("text", ["", "  \n ", [], ["", " "]])
async def test_nothing_to_say(text):
    assert (await read(text))[0] == []


async def test_other_scripts():
    found, reader = await read("你好 hello 😀 caf\u00e9 \ud800")
    assert [entry.text for entry in found] == ["hello", "café"]
    assert found[1].tokens[-1] == 0, "an unknown letter of a known word, as published"
    assert reader.left_out == "你好"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"bytes", "the text is bytes"),
        (7, "the text is int"),
        ((word for word in ["a", "b"]), "the text is generator"),
        (["fine", None], "a piece of the text is NoneType"),
        ('<break time="61s"/>', "a break of the text is 61 s"),
        ('<break time="' + "9" * 400 + 's"/>', "a break of the text is inf s"),
        ("a" * 40_000, "letters or more; put spaces"),
    ],
)
async def test_what_is_no_text(text, match):
    with pytest.raises(UsageError, match=match):
        await read(text)


async def test_pieces_that_are_no_strings():
    with pytest.raises(UsageError, match="a piece of the text is int"):
        await read(streamed(["fine ", 5]))
