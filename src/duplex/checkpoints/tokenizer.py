"""The text tokenizer, and pieces turned back into text one token at a time.

The model speaks in pieces: one token a frame, most of them padding. A piece that begins with a space begins a word.
What the tokenizer has no piece for comes as *byte-fallback* pieces, one UTF-8 byte each, which have to be gathered
until a character is whole.
"""

import codecs
import enum
from pathlib import Path
from typing import TYPE_CHECKING

from duplex.errors import CheckpointError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = ["PieceDecoder", "PieceKind", "Tokenizer"]

SPACE = "\u2581"
"""The mark that sentencepiece writes for a space."""


class PieceKind(enum.Enum):
    """What a token of the tokenizer stands for."""

    TEXT = "text"
    BYTE = "byte"
    CONTROL = "control"
    UNKNOWN = "unknown"
    UNUSED = "unused"


class Tokenizer:
    """A checkpoint's sentencepiece model. Immutable; may be shared by conversations and threads."""

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
        """Read a sentencepiece model.

        :raises CheckpointError: if the file is missing, cannot be read, or is no sentencepiece model
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
    def vocabulary(self) -> int:
        """How many tokens there are, from 0."""
        return len(self._pieces)

    def piece(self, token: int) -> str:
        """Return a token's piece as the tokenizer spells it, or "" outside the vocabulary."""
        return self._pieces[token] if 0 <= token < len(self._pieces) else ""

    def kind(self, token: int) -> PieceKind:
        """Return what a token stands for; outside the vocabulary that is unused."""
        return self._kinds[token] if 0 <= token < len(self._kinds) else PieceKind.UNUSED

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without begin and end marks."""
        tokens: list[int] = self._processor.encode(text, out_type=int)
        return tokens

    def check_vocabulary(self, text_card: int) -> None:
        """Check that every token a model can choose, from 0 to ``text_card - 1``, has a piece.

        :raises CheckpointError: if the tokenizer is too small for the model
        """
        if text_card > self.vocabulary:
            raise CheckpointError(
                f"{self._path}: the tokenizer has {self.vocabulary} pieces, but 'text_card' is {text_card}; "
                "they do not belong together: check 'tokenizer_name' in config.json"
            )


class PieceDecoder:
    """One conversation's text, from one token at a time. Its state is the bytes of an unfinished character, 3 at most.

    Padding does not end an unfinished character: only a piece that cannot go on with it does, and U+FFFD stands in.
    """

    def __init__(self, tokenizer: Tokenizer, padding: int, end_of_padding: int) -> None:
        self._tokenizer = tokenizer
        self._silent = frozenset((padding, end_of_padding))
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the text that a token completes, often "".

        Padding, end-of-padding, control and unknown pieces, and tokens that the tokenizer does not have, give "".
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
        """Return U+FFFD for a character that was left unfinished, else "", and start afresh."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest

    def state(self) -> bytes:
        """Return the bytes of the unfinished character, for :meth:`restore`."""
        return self._utf8.getstate()[0]

    def restore(self, state: bytes) -> None:
        """Go on where :meth:`state` was taken."""
        self._utf8.setstate((bytes(state), 0))


def _byte(piece: str) -> int:
    """Return the byte that a byte-fallback piece, spelt ``<0xE2>``, stands for."""
    return int(piece[3:-1], 16)
