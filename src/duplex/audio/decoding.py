"""Recordings of nearly any format in pieces of a second, through PyAV. Blocking: call it from a worker thread.

1. The time line is the count of decoded samples, from the first on. Where the time stamps of neighbours leave a gap (a
   page lost on the way, a recorder that was muted) silence stands in, so that what follows stays in its place. Steps of
   less than 50 ms are jitter, more than a minute or back are recordings joined together; neither is followed.
2. PyAV only decodes; channels are chosen and rates converted here, so that every format is treated alike.
3. What cannot be decoded at the very end of a file is a recording cut short, and what came before it is delivered.
   Followed by more sound, it is damage, and an error: silently closing the gap would shift everything after it. So is
   an end of many packets: it never was sound.
"""

import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.packet import Packet
from numpy.typing import NDArray

from duplex.audio.containers import open_container, open_recording, sound_of
from duplex.audio.pcm import MAXIMUM_RATE, MINIMUM_RATE, Resampler, UserChannel
from duplex.errors import AudioFileError, ClosedError

__all__ = ["Decoder"]

Float32 = NDArray[np.float32]
Pieces: TypeAlias = Generator[Float32, None, None]

Heard: TypeAlias = UserChannel | Literal["both"]
"""One channel, or the first two side by side."""

_BOTH = 2
_CHANNELS = {"left": 0, "right": 1}
_INTEGER_SCALES = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}
_TAG = b"ID3"
_JITTER = 0.05
_LONGEST_GAP = 60.0
_CUT_PACKETS = 8
"""How many packets at the end a cut may have spoilt; one, but for those that lie within one another."""
_CONVERT = "convert it to wav or flac and try again"


class Decoder:
    """One recording, read piece by piece as float32 at ``sample_rate``. Close it in any case.

    Pieces are ``[samples]``, or ``[samples, 2]`` if ``both`` channels are heard. ``content`` is where its bytes lie, if
    they have been copied there from a pipe; messages name ``path``.

    :raises AudioFileError: if the file cannot be opened or has no sound
    """

    def __init__(self, path: Path, sample_rate: int, user_channel: Heard, *, content: Path | None = None) -> None:
        self._path = path
        self._sample_rate = sample_rate
        self._user_channel: Heard = user_channel
        self._lock = threading.Lock()  # the decoder must not be freed by close() while another thread is in read()
        self._closed = False
        self._failure: AudioFileError | None = None
        self._seconds = 0.0
        self._next_stamp: float | None = None
        self._file = open_recording(path, content)
        try:
            self._container = open_container(path, self._file)
            self._stream = sound_of(path, self._container)
        except BaseException:
            self._file.close()
            raise
        self._pieces = self._gathered()

    @property
    def source_rate(self) -> int:
        """The sample rate that the file says it has, in hertz."""
        return self._stream.rate

    @property
    def channels(self) -> int:
        """How many channels the file says it has."""
        return self._stream.channels

    def read(self) -> Float32 | None:
        """Return the next second or so, of a length above 0, or ``None`` after the last.

        :raises AudioFileError: if the file is damaged, has no samples, or holds NaN or infinity; again at each call
        :raises ClosedError: after :meth:`close`
        """
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self._path} has been closed; open it again to read on")
            if self._failure is not None:
                raise self._failure
            try:
                return next(self._pieces, None)
            except AudioFileError as error:
                self._failure = error
                raise

    def close(self) -> None:
        """Close the file, waiting for a read in another thread; calling it twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._pieces.close()
            self._container.close()
            self._file.close()

    def _gathered(self) -> Pieces:
        """Yield pieces of a second at the target rate."""
        gathered: list[Float32] = []
        waiting = 0
        for piece in self._resampled():
            gathered.append(piece)
            waiting += len(piece)
            if waiting >= self._sample_rate:
                yield np.concatenate(gathered)
                gathered, waiting = [], 0
        if waiting:
            yield np.concatenate(gathered)
        if not self._seconds:
            raise AudioFileError(f"{self._path} has a sound track without samples; record or export it again")

    def _resampled(self) -> Pieces:
        """Yield what is heard at the target rate; a file whose rate changes on the way goes on as one stream."""
        resampler: Resampler | None = None
        width = (_BOTH,) if self._user_channel == "both" else ()
        for frame in self._frames():
            rate = frame.sample_rate
            if not MINIMUM_RATE <= rate <= MAXIMUM_RATE:
                raise AudioFileError(f"{self._path} has a sample rate of {rate} Hz, out of range; {_CONVERT}")
            if resampler is None or resampler.source_rate != rate:
                if resampler is not None:
                    yield resampler.flush()
                resampler = Resampler(rate, self._sample_rate, *width)
            if gap := round(self._gap(frame) * rate):
                yield resampler.push(np.zeros((gap, *width), dtype=np.float32))
                self._seconds += gap / rate
            yield resampler.push(self._samples(frame))
            self._seconds += frame.samples / rate
        if resampler is not None:
            yield resampler.flush()

    def _gap(self, frame: AudioFrame) -> float:
        """Return the seconds that are missing before a frame by its time stamp, 0 in the usual case; see rule 1."""
        stamp = self._next_stamp if frame.time is None else frame.time
        if stamp is None:
            return 0.0
        gap = 0.0 if self._next_stamp is None else stamp - self._next_stamp
        self._next_stamp = stamp + frame.samples / frame.sample_rate
        return gap if _JITTER < gap <= _LONGEST_GAP else 0.0

    def _frames(self) -> Iterator[AudioFrame]:
        """Yield decoded frames; see rule 3 for what happens to those that cannot be decoded."""
        damage: AudioFileError | None = None
        undecodable = 0
        for packet in self._packets():
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except (FFmpegError, OSError) as error:
                if bytes(packet)[: len(_TAG)] == _TAG:
                    continue  # titles between mp3 files that were joined byte by byte: no sound is lost
                damage = damage or self._damaged(error)
                undecodable += 1
                if undecodable > _CUT_PACKETS and self._seconds:
                    raise damage from None
                continue
            # The packet without data at the end only empties the decoder: no sound after the damage.
            if frames and damage is not None and packet.size:
                raise damage
            yield from frames
        if damage is not None and not self._seconds:
            raise AudioFileError(f"{self._path} has no sound that can be decoded; {_CONVERT}") from damage

    def _packets(self) -> "Iterator[Packet[Any]]":  # generic to type checkers only
        try:
            yield from self._container.demux(self._stream)
        except (FFmpegError, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> AudioFileError:
        reason = getattr(error, "strerror", None) or str(error)
        return AudioFileError(
            f"{self._path} cannot be decoded at {self._seconds:.2f} s ({reason}); "
            "it is damaged there: repair it, or cut it off before that time"
        )

    def _samples(self, frame: AudioFrame) -> Float32:
        """Return what is heard of a frame, float32."""
        try:
            samples = cast("NDArray[Any]", frame.to_ndarray())
        except ValueError:
            raise AudioFileError(f"{self._path} has samples of the type {frame.format.name}; {_CONVERT}") from None
        # Planar sound is an array [channels, samples], packed sound [1, samples * channels].
        channels = frame.layout.nb_channels
        planes = samples if frame.format.is_planar else samples.reshape(-1, channels).T
        heard = _to_float32(_chosen(planes, self._user_channel), samples.dtype)
        finite = np.isfinite(heard)
        if not finite.all():
            at = self._seconds + int(np.argwhere(~finite)[0, 0]) / frame.sample_rate
            raise AudioFileError(f"{self._path} has NaN or infinity at {at:.2f} s; export it again or mend the samples")
        return heard


def _chosen(planes: NDArray[Any], user_channel: Heard) -> NDArray[Any]:
    """Return one row of ``[channels, samples]``, the mean of all of them, or the first two as ``[samples, 2]``."""
    if user_channel == "both":  # a stream that goes on in mono has the same on both sides
        return planes[[0, min(1, len(planes) - 1)]].T
    if len(planes) == 1:
        return planes[0]
    if user_channel == "mix":
        with np.errstate(invalid="ignore"):  # infinities that cancel out become NaN, which is told by the caller
            return planes.mean(axis=0, dtype=np.float64)
    return planes[_CHANNELS[user_channel]]


def _to_float32(samples: NDArray[Any], original: np.dtype[Any]) -> Float32:
    """Scale samples that were of the type ``original`` to -1..1."""
    if original == np.uint8:
        return ((samples.astype(np.float32) - 128) / 128).astype(np.float32)
    scale = _INTEGER_SCALES.get(original, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # told by the caller as infinity
        return (samples.astype(np.float64) / scale).astype(np.float32)
