"""Opening recordings of nearly any format, and what their headers tell. Blocking.

1. Only formats that say in their first bytes what they are. A decoder also guesses at headerless samples, by the name's
   suffix or from nothing, and makes minutes of nonsense of them.
2. A pipe has no place to go back to: it is copied to a temporary file, which is gone when it is closed.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from duplex.errors import AudioFileError

__all__ = ["open_container", "open_recording", "probe_duration", "promised_duration", "sound_of", "spool"]

# Titles in old encodings must not keep a recording from being heard. PyAV 19 takes them as they are, and has no option.
_OPTIONS = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}  # noqa: PLR2004
_SIGNED = frozenset(
    (
        *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "avr", "caf", "dsf", "dss", "dts", "dtshd", "dv"),
        *("eac3", "flac", "flv", "gxf", "hcom", "iff", "ilbc", "ircam", "loas", "matroska", "mlp", "mov", "mp3", "mpc"),
        *("mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nut", "ogg", "oma", "osq", "pvf", "qcp", "qoa", "rm", "shn"),
        *("sox", "tak", "truehd", "tta", "voc", "w64", "wav", "wtv", "wv", "xwma"),
    )
)
"""FFmpeg's names of the formats that begin with a signature, or whose every frame does."""
_HONEST = frozenset(
    ("aiff", "ape", "asf", "au", "avi", "caf", "flac", "matroska", "mov", "nistsphere", "tta", "w64", "wv")
)
"""Those that state a length; that of the others is an estimate from the size and the bit rate at the beginning."""
_SPHERE = b"NIST_1A"
_SPHERE_HEADER = 1024
_BLOCK = 1 << 20
_XING = (b"Xing", b"Info", b"VBRI")
_FIRST_FRAME = 4096
"""Bytes behind the titles of an mp3 in which its first frame lies."""
_TITLES_HEADER = 10


def open_recording(path: Path, content: Path | None = None) -> BinaryIO:
    """Open a file that is not empty; of a pipe, a copy that can be read from any place.

    ``content`` is such a copy, if one has been made before; messages name ``path``.

    :raises AudioFileError: saying what is there instead
    """
    try:
        place = content or path
        status = place.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"{path} is a folder; give an audio file in it")
        if stat.S_ISFIFO(status.st_mode):
            return _copy_of(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{path} is a device; save the audio to a file first, or give it through a pipe")
        if not status.st_size:
            raise AudioFileError(f"{path} is empty; record or copy it again")
        return place.open("rb")
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist; check the name and the folder") from None
    except PermissionError:
        raise AudioFileError(f"{path} may not be read by you; change its permissions or copy it") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise AudioFileError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def spool(source: BinaryIO, copy: BinaryIO, path: Path) -> None:
    """Copy all that comes out of a pipe.

    :raises AudioFileError: if it cannot be kept
    """
    try:
        shutil.copyfileobj(source, copy, _BLOCK)
        copy.flush()
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be kept while it is read: {error.strerror or error}; make room in {tempfile.gettempdir()}, "
            "or name another folder in TMPDIR"
        ) from None


def _copy_of(pipe: Path) -> BinaryIO:
    copy = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 -- the caller closes it
    try:
        with pipe.open("rb") as source:
            spool(source, copy, pipe)
    except BaseException:
        copy.close()
        raise
    if not copy.tell():
        copy.close()
        raise AudioFileError(f"{pipe} is empty; what writes to it has sent nothing")
    copy.seek(0)
    return copy


def open_container(path: Path, file: BinaryIO) -> InputContainer:
    """Open what a file holds; ``path`` is for messages.

    :raises AudioFileError: if it is of no format that is known, or a compression that is not
    """
    start = file.read(_SPHERE_HEADER)
    file.seek(0)
    if start.startswith(_SPHERE) and b"shorten" in start:
        raise AudioFileError(
            f"{path} is a NIST SPHERE file compressed with shorten; "
            f"unpack it with `sph2pipe -f wav {path.name} OUT.wav`"
        )
    try:
        # A file object and no protocols: a playlist must not make this open other files or addresses.
        return cast("Any", av.open)(file, "r", container_options={"protocol_whitelist": "none"}, **_OPTIONS)
    except (FFmpegError, OSError):
        raise AudioFileError(
            f"{path} is not a recording that can be read, or was cut short; "
            "give wav, flac, mp3, ogg, opus, m4a, mka or a video"
        ) from None


def sound_of(path: Path, container: InputContainer) -> AudioStream:
    """Return the sound track, and close the container if there is none.

    :raises AudioFileError: if there is none, or what it is was only guessed
    """
    stream = cast("AudioStream | None", container.streams.best("audio"))
    name = container.format.long_name
    if stream is None:
        container.close()
        raise AudioFileError(f"{path} has no sound track (it looks like {name}); give a recording with sound")
    if _kind(container) not in _SIGNED:
        container.close()
        raise AudioFileError(
            f"{path} has no header that says what it is ({name} is a guess); if it holds plain samples, say which: "
            "`ffmpeg -f s16le -ar 16000 -ac 1 -i IN OUT.wav`, with its own coding, rate and channels"
        )
    return stream


def probe_duration(path: Path) -> float | None:
    """Return the length in seconds that a recording's headers tell, for a progress bar; ``None`` if unknown."""
    try:
        if path.is_fifo():  # which can be read only once
            return None
        with open_recording(path) as file, open_container(path, file) as container:
            return _stated(sound_of(path, container), container)
    except (AudioFileError, OSError, ValueError):
        return None


def promised_duration(path: Path) -> float | None:
    """Return the length in seconds that a recording states of itself; ``None`` if it states none, or of another track.

    :raises AudioFileError: if the recording cannot be opened
    """
    with open_recording(path) as file, open_container(path, file) as container:
        stream, kind = sound_of(path, container), _kind(container)
        if kind == "mp3":
            return _stated(stream, container) if _counts_its_frames(file) else None
        if kind not in _HONEST or (stream.duration is None and len(container.streams) > 1):
            return None
        return _stated(stream, container)


def _kind(container: InputContainer) -> str:
    return container.format.name.split(",", 1)[0]


def _stated(stream: AudioStream, container: InputContainer) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _counts_its_frames(file: BinaryIO) -> bool:
    """Tell whether an mp3's first frame has the table that counts them."""
    file.seek(0, os.SEEK_SET)
    titles = file.read(_TITLES_HEADER)
    if titles.startswith(b"ID3") and len(titles) == _TITLES_HEADER:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(titles[6:], (21, 14, 7, 0), strict=True))
        file.seek(_TITLES_HEADER + size)
    else:
        file.seek(0)
    frame = file.read(_FIRST_FRAME)
    return any(mark in frame for mark in _XING)
