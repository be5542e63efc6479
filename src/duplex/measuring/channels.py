"""The channels of a dialogue's two speakers, decoded piece by piece; a file that has both is decoded once."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.truncation import is_truncated
from duplex.errors import AudioFileError
from duplex.measuring.activity import RATE, Channel
from duplex.measuring.source import Side, Source
from duplex.process.recordings import Recording

if TYPE_CHECKING:
    from duplex.audio.decoding import Decoder, Heard

__all__ = ["cut_short", "open_channels"]

Float32 = NDArray[np.float32]
_MONO, _STEREO = 1, 2


@contextlib.contextmanager
def open_channels(source: Source) -> Generator[list[Channel], None, None]:
    """Give the channel of each speaker, from the dialogue's start to its end.

    :raises AudioFileError: if a recording cannot be read, has not the channels that it should, or ends before the start
    """
    with contextlib.ExitStack() as stack:
        if source.kind == "stereo":
            yield _both(_open(source.files[0], "both", _STEREO, stack), source)
        else:
            yield [
                _Pieces(_window(_opened_side(file, side, stack), file.path, source))
                for file, side in zip(source.files, source.sides, strict=True)
            ]


def cut_short(source: Source, heard: Sequence[float]) -> Iterator[str]:
    """Yield a remark on each file that is only the beginning of what it was; ``heard`` are the channels' seconds."""
    if source.start or source.end is not None:  # a stretch, which has an end of its own
        return
    for file, seconds in zip(source.files, heard, strict=False):  # one file may have both channels
        if is_truncated(file.content, seconds):
            yield f"{file.path.name} was cut short, and counts up to there; get the whole file"


def _opened_side(file: Recording, side: Side, stack: contextlib.ExitStack) -> "Decoder":
    return _open(file, "left", _MONO, stack) if side == "mono" else _open(file, side, _STEREO, stack)


def _open(file: Recording, heard: "Heard", channels: int, stack: contextlib.ExitStack) -> "Decoder":
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

    decoder = Decoder(file.path, RATE, heard, content=file.content)
    stack.callback(decoder.close)
    if decoder.channels != channels:
        raise AudioFileError(_wrong_channels(file.path, decoder.channels, channels))
    return decoder


def _both(decoder: "Decoder", source: Source) -> list[Channel]:
    pieces = _window(decoder, source.files[0].path, source)
    waiting: tuple[deque[Float32], deque[Float32]] = deque(), deque()
    return [_Half(pieces, waiting, side) for side in (0, 1)]


def _window(decoder: "Decoder", path: Path, source: Source) -> Iterator[Float32]:
    """Yield what is between the dialogue's start and its end, ``[samples]`` or ``[samples, 2]``."""
    start = round(source.start * RATE)
    end = None if source.end is None else round(source.end * RATE)
    at = 0
    while (end is None or at < end) and (piece := decoder.read()) is not None:
        kept = piece[max(start - at, 0) : None if end is None else end - at]
        at += len(piece)
        if len(kept):
            yield kept
    if at <= start and start:
        raise AudioFileError(
            f"{path} has {at / RATE:.2f} s, but the dialogue begins at {source.start:g} s; mend its start"
        )


@attrs.define
class _Pieces:
    pieces: Iterator[Float32]

    def read(self) -> Float32 | None:
        return next(self.pieces, None)


@attrs.define
class _Half:
    """One side of pieces that hold both; what the other has not asked for yet waits."""

    pieces: Iterator[Float32]
    waiting: tuple[deque[Float32], deque[Float32]]
    side: int

    def read(self) -> Float32 | None:
        own = self.waiting[self.side]
        if not own:
            both = next(self.pieces, None)
            if both is None:
                return None
            for side, queue in enumerate(self.waiting):
                queue.append(np.ascontiguousarray(both[:, side]))
        return own.popleft()


def _wrong_channels(path: Path, channels: int, wanted: int) -> str:
    if wanted == _MONO:
        return (
            f"{path} has {channels} channels, but is one side of a pair by its name; give two mono files, or stereo "
            "files alone, with --pair and names that they do not have"
        )
    if channels == _MONO:
        return (
            f"{path} is mono: who speaks cannot be told from it; give a stereo recording, both sides as "
            "NAME-left and NAME-right (or with --pair), or its turns as RTTM, CTM or TextGrid"
        )
    return f"{path} has {channels} channels; give one with a channel for each of two speakers"
