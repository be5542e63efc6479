"""Writing 16-bit wav files piece by piece, so that a file appears under its name only when it is complete."""

import contextlib
import os
import struct
import wave
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from duplex.atomic import abandon, begin, complete, output_error
from duplex.audio.pcm import to_int16
from duplex.audio.synthetic_mark import Synthetic, mark_chunk
from duplex.errors import AudioError, ClosedError, OutputError, UsageError

__all__ = ["WavWriter", "endless_header"]

_SAMPLE_BYTES = 2
_RIFF_SIZE_AT, _RIFF_HEAD = 4, 8
"""Where the file's size is, in bytes, and what comes before that which it counts."""
_MAXIMUM_BYTES = 2**32 - 1024
"""The format counts bytes in 32 bits; the header and a mark take their share."""


_ENDLESS = 2**32 - 1
"""A size that stands for "to the end", as players of streams read it."""


def endless_header(sample_rate: int) -> bytes:
    """Return the beginning of a wav file of one channel of 16 bits that is sent before its length is known.

    What follows is synthetic speech, which the header says.
    """
    rate = _SAMPLE_BYTES * sample_rate
    kind = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, rate, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES)
    head = struct.pack("<4sI4s", b"RIFF", _ENDLESS, b"WAVE")
    return head + kind + mark_chunk("all") + struct.pack("<4sI", b"data", _ENDLESS)


class WavWriter:
    """One 16-bit wav file, written as audio arrives.

    It grows in a ``.part`` file beside ``path`` until :meth:`commit` renames it or :meth:`discard` removes it. As a
    context manager it commits when the block is left well, and discards after an exception. What of it is ``synthetic``
    speech is marked in the file, after the sound.

    :raises OutputError: if the file cannot be created
    :raises UsageError: if ``channels`` or ``sample_rate`` is not positive
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        channels: int,
        sample_rate: int,
        synthetic: Synthetic | None = None,
    ) -> None:
        if channels < 1 or sample_rate < 1:
            raise UsageError(f"a wav file of {channels} channels at {sample_rate} Hz; both must be positive")
        self.path: Path = Path(path)
        self._channels = channels
        self._mark = b"" if synthetic is None else mark_chunk(synthetic)
        self._bytes = 0
        self._part = begin(self.path)
        try:
            self._file: BinaryIO | None = self._part.open("wb")
        except OSError as error:
            raise output_error(self.path, error) from None
        self._wave = wave.Wave_write(self._file)
        self._wave.setnchannels(channels)
        self._wave.setsampwidth(_SAMPLE_BYTES)
        self._wave.setframerate(sample_rate)

    def write(self, pcm: NDArray[np.float32]) -> None:
        """Append float32 ``[n]`` (one channel) or ``[n, channels]``; values beyond -1..1 are clipped.

        :raises AudioError: if the shape does not fit
        :raises ClosedError: after :meth:`commit`, :meth:`discard`, or a failure
        :raises OutputError: if the disk refuses, or the file would pass 4 GiB; the file is discarded
        """
        if pcm.shape[1:] != (self._channels,) and (pcm.ndim != 1 or self._channels != 1):
            raise AudioError(f"audio has the shape {pcm.shape}, but {self.path} has {self._channels} channels")
        if self._file is None:
            raise ClosedError(f"{self.path} has been completed or discarded; start another writer")
        self._bytes += pcm.size * _SAMPLE_BYTES
        if self._bytes > _MAXIMUM_BYTES:
            self.discard()
            raise OutputError(f"{self.path} would pass 4 GiB, the most a wav file can hold; cut the input into parts")
        samples = to_int16(pcm)  # in the machine's byte order, which is what wave expects
        try:
            # The raw variant leaves the header's lengths to close(), instead of seeking back at every write.
            self._wave.writeframesraw(samples.tobytes())
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from None

    def commit(self) -> None:
        """Complete the file under its final name; calling it twice is harmless.

        :raises OutputError: if the disk refuses; the file is discarded
        """
        if self._file is None:
            return
        try:
            self._wave.close()
            self._write_mark(self._file)
            self._file.close()
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from None
        self._file = None
        complete(self._part, self.path)

    def _write_mark(self, file: BinaryIO) -> None:
        """Append the mark, and count it in the header."""
        if self._mark:
            size = file.seek(0, os.SEEK_END) + len(self._mark) - _RIFF_HEAD
            file.write(self._mark)
            file.seek(_RIFF_SIZE_AT)
            file.write(size.to_bytes(4, "little"))

    def discard(self) -> None:
        """Remove what was written, if it was not committed."""
        if self._file is None:
            return
        for closable in (self._wave, cast("wave.Wave_write", self._file)):
            with contextlib.suppress(OSError):  # a full disk refuses the last flush too; the file goes anyway
                closable.close()
        self._file = None
        abandon(self._part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()
