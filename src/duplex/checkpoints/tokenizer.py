"""The text tokenizer, and streaming detokenization one token at a time.

The model generates one text token per frame, most of them padding. A piece that begins with a space begins a word.
Characters outside the vocabulary come as *byte-fallback* pieces, one UTF-8 byte each, which are buffered until the
character is complete.
"""

import codecs
import enum
from pathlib import Path
from typing import TYPE_CHECKING

from duplex.errors import CheckpointError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = ["PieceKind", "StreamingDetokenizer", "Tokenizer"]

SPACE = "\u2581"
"""The character that sentencepiece writes for a space."""


class PieceKind(enum.Enum):
    """The kind of a token, as sentencepiece defines it."""

    TEXT = "text"
    BYTE = "byte"
    CONTROL = "control"
    UNKNOWN = "unknown"
    UNUSED = "unused"


class Tokenizer:
    """A checkpoint's sentencepiece model. Immutable; may be shared between conversations and threads."""

    def __init__(self, processor: "SentencePieceProcessor", path: Path) -> None:
        tokens = list(range(processor.vocab_size()))
        self._processor = processor
        self._path = path
        self._pieces = processor.id_to_piece(tokens)
        self._kinds = [PieceKind.TEXT] * len(tokens)
        for kind, flags in (
            (PieceKind.BYTE, processor.is_byte(tokens)),
            (PieceKind.CONTROL, processor.is_control(tokens)),
            (PieceKind.UNKNOWN, processor.is_unknown(tokens)),
            (PieceKind.UNUSED, processor.is_unused(tokens)),
        ):
            for token, flag in enumerate(flags):
                if flag:
                    self._kinds[token] = kind

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a sentencepiece model.

        :raises CheckpointError: if the file is missing, cannot be read, or is not a sentencepiece model
        """
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 -- takes 50 ms, which `import duplex` spares

        try:
            model = path.read_bytes()
        except FileNotFoundError:
            raise CheckpointError(
                f"{path}: the tokenizer is missing; download or copy the checkpoint's tokenizer file there"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{path}: the tokenizer cannot be read ({error.strerror})") from error
        try:
            # Through bytes, for paths that the C++ side cannot spell; an empty model would only warn, on stderr.
            processor = SentencePieceProcessor(model_proto=model) if model else None
        except (RuntimeError, ValueError):
            processor = None
        if processor is None or processor.vocab_size() == 0:
            raise CheckpointError(
                f"{path}: this is no sentencepiece model, or a damaged one; download or copy the tokenizer again"
            )
        return cls(processor, path)

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self._pieces)

    def piece(self, token: int) -> str:
        """Return a token's piece as sentencepiece writes it, or "" outside the vocabulary."""
        return self._pieces[token] if 0 <= token < len(self._pieces) else ""

    def kind(self, token: int) -> PieceKind:
        """Return a token's kind; tokens outside the vocabulary are unused."""
        return self._kinds[token] if 0 <= token < len(self._kinds) else PieceKind.UNUSED

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without begin- and end-of-sequence tokens."""
        tokens: list[int] = self._processor.encode(text, out_type=int)
        return tokens

    def check_vocab_size(self, text_card: int) -> None:
        """Check that every token a model can sample, from 0 to ``text_card - 1``, has a piece.

        :raises CheckpointError: if the tokenizer is too small for the model
        """
        if text_card > self.vocab_size:
            raise CheckpointError(
                f"{self._path}: the tokenizer has {self.vocab_size} pieces, but 'text_card' is {text_card}; "
                "they do not belong together: check 'tokenizer_name' in config.json"
            )


class StreamingDetokenizer:
    """Turns one conversation's tokens into text, one at a time. Its state: at most 3 bytes of an incomplete character.

    Padding does not end an incomplete character; a piece that cannot continue it does, and U+FFFD replaces it.
    """

    def __init__(self, tokenizer: Tokenizer, padding: int, end_of_padding: int) -> None:
        self._tokenizer = tokenizer
        self._silent = frozenset((padding, end_of_padding))
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the text that a token completes, often "".

        Padding, end-of-padding, control and unknown pieces, and tokens outside the vocabulary, give "".
        """
        if token in self._silent:
            return ""
        kind = self._tokenizer.kind(token)
        if kind is PieceKind.BYTE:
            return self._utf8.decode(bytes([_byte(self._tokenizer.piece(token))]))
        if kind is PieceKind.TEXT:
            return self.finish() + self._tokenizer.piece(token).replace(SPACE, " ")
        return ""

    def finish(self) -> str:
        """Return U+FFFD for an incomplete character, else "", and reset."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest

    def state(self) -> bytes:
        """Return the bytes of the incomplete character, for :meth:`restore`."""
        return self._utf8.getstate()[0]

    def restore(self, state: bytes) -> None:
        """Continue from a state that :meth:`state` returned.

        :raises ValueError: if these bytes do not begin a character, or hold a whole one
        """
        if codecs.utf_8_decode(state, "strict")[1]:
            raise ValueError("the text's state holds whole characters")
        self._utf8.setstate((bytes(state), 0))


def _byte(piece: str) -> int:
    """Return the byte of a byte-fallback piece, such as ``<0xE2>``."""
    return int(piece[3:-1], 16)
