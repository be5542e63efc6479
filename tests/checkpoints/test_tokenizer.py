"""Pieces become text one token at a time, whatever the model says."""

import io
import itertools

import pytest
import sentencepiece

from duplex.checkpoints.tokenizer import PieceKind, StreamingDetokenizer, Tokenizer
from duplex.errors import CheckpointError

WORDS = ["the", "quick", "brown", "fox", "jumps", "over"]
PADDING, END = 3, 0


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    sentences = (" ".join(words) for words in itertools.permutations(WORDS, 4))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        vocab_size=300,
        model_type="unigram",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(model.getvalue())
    return file


@pytest.fixture
def tokenizer(path):
    return Tokenizer.load(path)


@pytest.fixture
def decoder(tokenizer):
    return StreamingDetokenizer(tokenizer, PADDING, END)


def byte(tokenizer, value):
    """The token of a byte-fallback piece."""
    spelling = f"<0x{value:02X}>"
    return next(token for token in range(tokenizer.vocab_size) if tokenizer.piece(token) == spelling)


def feed(decoder, tokens):
    return [decoder.feed(token) for token in tokens]


def test_kinds(tokenizer):
    assert [tokenizer.kind(token) for token in range(4)] == [PieceKind.UNKNOWN] + [PieceKind.CONTROL] * 3
    assert tokenizer.kind(byte(tokenizer, 0xE2)) is PieceKind.BYTE
    assert tokenizer.kind(tokenizer.encode("quick")[0]) is PieceKind.TEXT
    for outside in (-2, -1, tokenizer.vocab_size, 10**9):
        assert tokenizer.kind(outside) is PieceKind.UNUSED
        assert tokenizer.piece(outside) == ""


def test_text_comes_back_with_its_spaces(tokenizer, decoder):
    text = "the quick brown fox"
    assert "".join(feed(decoder, tokenizer.encode(text))) == " " + text


def test_nothing_to_say(tokenizer, decoder):
    assert feed(decoder, [PADDING, END, 1, 2, -1, -2, tokenizer.vocab_size, 10**9]) == [""] * 8


def test_a_character_comes_when_it_is_whole(tokenizer, decoder):
    tokens = [byte(tokenizer, value) for value in "é€😀".encode()]
    assert feed(decoder, tokens) == ["", "é", "", "", "€", "", "", "", "😀"]


def test_round_trip_of_what_has_no_piece(tokenizer, decoder):
    text = "the 猫 jumps ☂ über"
    assert "".join(feed(decoder, tokenizer.encode(text))) == " " + text


def test_padding_does_not_end_a_character(tokenizer, decoder):
    first, second = (byte(tokenizer, value) for value in "é".encode())
    assert feed(decoder, [first, PADDING, END, 1, second]) == ["", "", "", "", "é"]


def test_a_broken_character_does_not_swallow_what_follows(tokenizer, decoder):
    start = byte(tokenizer, 0xE2)
    [piece] = tokenizer.encode("the")
    assert feed(decoder, [start, piece]) == ["", "\ufffd the"]
    assert feed(decoder, [start, byte(tokenizer, ord("A"))]) == ["", "\ufffdA"]
    assert feed(decoder, [start, start, byte(tokenizer, 0x82), byte(tokenizer, 0xAC)]) == ["", "\ufffd", "", "€"]
    assert feed(decoder, [byte(tokenizer, 0x82), piece]) == ["\ufffd", " the"]


def test_what_is_left_at_the_end(tokenizer, decoder):
    decoder.feed(byte(tokenizer, 0xE2))
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


def test_state_goes_on_elsewhere(tokenizer, decoder):
    tokens = [byte(tokenizer, value) for value in "😀".encode()]
    for cut in range(4):
        first, second = StreamingDetokenizer(tokenizer, PADDING, END), StreamingDetokenizer(tokenizer, PADDING, END)
        feed(first, tokens[:cut])
        state = first.state()
        assert state == "😀".encode()[:cut]
        decoder.feed(tokens[0])
        second.restore(state)
        assert "".join(feed(second, tokens[cut:])) == "😀"
    decoder.restore(b"")
    assert decoder.finish() == ""


def test_vocabulary_must_cover_the_model(tokenizer):
    tokenizer.check_vocab_size(tokenizer.vocab_size)
    with pytest.raises(CheckpointError, match=r"'text_card' is 32000.*'tokenizer_name'"):
        tokenizer.check_vocab_size(32000)


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="the tokenizer is missing"):
        Tokenizer.load(tmp_path / "none.model")


@pytest.mark.parametrize("content", [b"", b"hello, world " * 9, b"PK\x03\x04", b"\x12\x00"])
def test_damaged(tmp_path, content, capfd):
    file = tmp_path / "broken.model"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="no sentencepiece model"):
        Tokenizer.load(file)
    assert capfd.readouterr().err == ""


def test_cut_short(tmp_path, path):
    file = tmp_path / "short.model"
    file.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="no sentencepiece model"):
        Tokenizer.load(file)


def test_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path)
