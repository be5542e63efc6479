"""Mimi alone: a recording to a file of codes, and a file of codes to a recording, piece by piece."""

import contextlib
import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from duplex.atomic import atomic_write_bytes
from duplex.audio.pcm import Framer, UserChannel
from duplex.audio.wav import WavWriter
from duplex.checkpoints.weights_file import TensorInfo, read_header
from duplex.codec import Codec
from duplex.errors import AudioFileError, UsageError, WeightsError

__all__ = ["decode_file", "encode_file", "read_codes_header"]

CODES = "codes"
FRAMES = 125
"""Frames that are decoded at a time."""
_MAKE_ONE = "make one with `duplex encode`"


def encode_file(
    codec: Codec,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    user_channel: UserChannel = "mix",
    progress: Callable[[float], None] | None = None,
    content: Path | None = None,
) -> int:
    """Write a recording's codes as ``codes`` int64 ``[codebooks, frames]``; return the frames. Blocking.

    ``content`` is where the recording's bytes lie, if ``path`` is a pipe that has been read (see :func:`spooled`).
    ``progress`` is told the seconds that have been encoded.

    :raises AudioFileError: if the recording cannot be read
    :raises OutputError: if ``out`` cannot be written
    """
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

    _keep_apart(Path(path), Path(out))
    spec, stream = codec.spec, codec.stream()
    framer, columns = Framer(spec.frame_size), array("i")

    def encode(pcm: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> None:
        columns.extend(stream.encode(pcm).T.ravel().tolist())
        if progress is not None:
            progress(len(columns) / spec.codebooks / spec.frame_rate)

    with contextlib.closing(Decoder(Path(path), spec.sample_rate, user_channel, content=content)) as decoder:
        while (piece := decoder.read()) is not None:
            frames = framer.push(piece)
            if frames:
                encode(np.concatenate(frames))
    last = framer.flush()
    if last is not None:
        encode(last)
    codes = np.frombuffer(columns, np.intc).reshape(-1, spec.codebooks).T.astype(np.int64)
    atomic_write_bytes(out, save({CODES: np.ascontiguousarray(codes)}))
    return codes.shape[1]


def decode_file(
    codec: Codec,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Callable[[float], None] | None = None,
) -> int:
    """Write the sound of a file of codes as a 16-bit wav file; return its frames. Blocking.

    :raises AudioFileError: if the file has no codes that this codec can decode
    :raises OutputError: if ``out`` cannot be written
    """
    source, spec = Path(path), codec.spec
    _keep_apart(source, Path(out))
    codebooks, frames = read_codes_header(source)
    if codebooks != spec.codebooks:
        raise AudioFileError(
            f"{path} has {codebooks} codebooks, the model {spec.codebooks}; give the --model that it was encoded with"
        )
    stream = codec.stream()
    with WavWriter(out, channels=1, sample_rate=spec.sample_rate) as wav:
        try:
            with cast("Any", safe_open)(source, "np") as file:  # its annotations have no slices
                codes: Any = file.get_slice(CODES)
                for start in range(0, frames, FRAMES):
                    try:
                        wav.write(
                            stream.decode(np.asarray(codes[:, start : min(start + FRAMES, frames)]).astype(np.int64))
                        )
                    except UsageError as error:
                        raise AudioFileError(f"{source}: {error}; {_MAKE_ONE} and the same --model") from None
                    if progress is not None:
                        progress(min(start + FRAMES, frames) / spec.frame_rate)
        except (OSError, SafetensorError) as error:
            raise AudioFileError(f"{source} cannot be read ({error}); {_MAKE_ONE}") from None
    return frames


def read_codes_header(path: Path) -> tuple[int, int]:
    """Return how many codebooks and frames a file of codes holds.

    :raises AudioFileError: if it is no such file, or holds none
    """
    if not path.exists():
        raise AudioFileError(f"{path} does not exist; check the name and the folder")
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder; give a file of codes")
    try:
        header = read_header(path)
    except WeightsError:
        raise AudioFileError(f"{path} is no safetensors file, is damaged or may not be read; {_MAKE_ONE}") from None
    codes: TensorInfo | None = header.get(CODES)
    if codes is None:
        raise AudioFileError(f"{path} has no tensor 'codes' (it has: {', '.join(sorted(header))[:200]}); {_MAKE_ONE}")
    if codes.dtype[0] not in "IU" or len(codes.shape) != 2:  # noqa: PLR2004 -- codebooks and frames
        raise AudioFileError(
            f"{path}: 'codes' is {codes.dtype} {list(codes.shape)}, not whole numbers of [codebooks, frames]; "
            f"{_MAKE_ONE}"
        )
    codebooks, frames = codes.shape
    if not frames:
        raise AudioFileError(f"{path} holds no frames; {_MAKE_ONE}")
    return codebooks, frames


def _keep_apart(path: Path, out: Path) -> None:
    with contextlib.suppress(OSError):
        if os.path.samefile(path, out):  # noqa: PTH121 -- both may be missing
            raise UsageError(f"{path} would be overwritten; give another --out")
