"""What was said in a recording as columns of tokens: a channel through the codec, words as a text stream. Blocking.

The agent's words are those of a file beside the recording with its name and the suffix ``.json``, in the form of
``transcript.json``; in a folder of results they are those of ``transcript.json``. Of a pair of files, the agent's own
comes first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec
from duplex.errors import UsageError
from duplex.frame_model import ModelSpec
from duplex.parsing import parse_json, shown
from duplex.results.files import RUN, TRANSCRIPT
from duplex.transcription.alignment import SpecialTokens, align_words
from duplex.transcription.protocol import Word

__all__ = ["Channel", "encoded", "read_words", "text_row", "transcript_beside"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
SILENT_FRAMES = 16
"""How many are made at a time behind a channel's end."""


class Channel(Protocol):
    """Sound that is read piece by piece."""

    def read(self) -> Float32 | None:
        """Return the next float32 ``[samples]``, ``None`` after the last."""
        ...


def encoded(channel: Channel, codec: Codec, frames: int | None = None) -> Iterator[tuple[Float32, Int64]]:
    """Yield a channel's sound in whole frames, ``[n * frame_size]``, and its codes ``[streams, n]``, second by second.

    The last frame is filled up with silence. With ``frames`` it is as many: cut off, or silent from its end on.
    """
    size, stream = codec.spec.frame_size, codec.stream()
    for pcm in _whole_frames(channel, size, frames):
        yield pcm, stream.encode(pcm)


def _whole_frames(channel: Channel, size: int, frames: int | None) -> Iterator[Float32]:
    rest, done = np.zeros(0, np.float32), 0
    while (frames is None or done < frames) and (piece := channel.read()) is not None:
        pcm = np.concatenate([rest, piece])
        whole = len(pcm) // size if frames is None else min(len(pcm) // size, frames - done)
        rest, done = pcm[whole * size :], done + whole
        if whole:
            yield pcm[: whole * size]
    missing = min(len(rest), 1) if frames is None else frames - done
    while missing:
        count = min(missing, SILENT_FRAMES)
        yield np.pad(rest, (0, count * size - len(rest)))
        rest, missing = rest[:0], missing - count


def transcript_beside(first: Path, agent: Path | None = None) -> Path | None:
    """Return the file with the agent's words: beside the agent's own file, if that is another, or the first one."""
    for path in (agent, first):
        if path is None:
            continue
        beside = path.with_suffix(".json")
        if beside.is_file():
            return beside
        if (path.parent / RUN).is_file() and (path.parent / TRANSCRIPT).is_file():
            return path.parent / TRANSCRIPT
    return None


def read_words(path: Path) -> list[Word]:
    """Return the words of a transcript.

    :raises UsageError: if it is none
    """
    try:
        return [_word(chunk) for chunk in parse_json(path.read_bytes())["chunks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f'{path} is no transcript ({error}); write it as {{"chunks": [{{"text": "Hello", "timestamp": '
            "[0.5, 0.9]}]}, or move it away"
        ) from error


def _word(chunk: Any) -> Word:
    start, end = (float(each) for each in chunk["timestamp"])
    if not 0 <= start <= end < np.inf:
        raise ValueError(f"{shown(chunk)} has no times")
    return Word(str(chunk["text"]).strip(), start, end)


def text_row(words: Sequence[Word], frames: int, tokenizer: Tokenizer, spec: ModelSpec) -> Int64:
    """Return words as a text stream, int64 ``[frames]``."""
    marks = SpecialTokens(spec.text_padding, spec.text_end_of_padding)
    return align_words(words, frames, spec.frame_duration, tokenizer, marks)
