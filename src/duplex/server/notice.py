"""A recording that callers by telephone hear before a recorded conversation, at the pace of a clock."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.decoding import Decoder
from duplex.errors import UsageError

__all__ = ["load_notice", "play_notice"]

Float32 = NDArray[np.float32]
PIECE_SECONDS = 0.08
AHEAD_SECONDS = 0.2
"""That a piece is sent before it is due."""
LONGEST_SECONDS = 60.0


def load_notice(path: Path, sample_rate: int) -> Float32:
    """Return a notice, float32 ``[samples]``.

    :raises AudioFileError: if the file cannot be read
    :raises UsageError: if it is longer than a minute
    """
    decoder, pieces, samples = Decoder(path, sample_rate, "mix"), list[Float32](), 0
    try:
        while (piece := decoder.read()) is not None:
            pieces.append(piece)
            samples += piece.size
            if samples > LONGEST_SECONDS * sample_rate:
                raise UsageError(f"{path} is longer than {LONGEST_SECONDS:.0f} s, which no caller hears out; cut it")
    finally:
        decoder.close()
    return np.concatenate(pieces)


async def play_notice(pcm: Float32, sample_rate: int, play: Callable[[Float32], Awaitable[None]]) -> None:
    """Play a notice, and return when the caller has heard it."""
    size, began = round(PIECE_SECONDS * sample_rate), anyio.current_time()
    for start in range(0, pcm.size, size):
        await anyio.sleep_until(began + start / sample_rate - AHEAD_SECONDS)
        piece = pcm[start : start + size]
        await play(np.pad(piece, (0, size - piece.size)))
    await anyio.sleep_until(began + pcm.size / sample_rate)
