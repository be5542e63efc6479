"""Voices by example: a recording, or what the authors of PersonaPlex publish of one."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from duplex.audio.loudness import at_loudness, loudness_lufs
from duplex.checkpoints.voices import Voices
from duplex.codec import Codec
from duplex.errors import AudioError, AudioFileError, UsageError
from duplex.frame_model import ModelSpec
from duplex.prompting.personaplex import PublishedVoice
from duplex.prompting.pickles import read_tensors

__all__ = [
    "MAX_VOICE_SECONDS",
    "VoiceCodes",
    "VoiceEncoder",
    "find_speaker",
    "find_voice",
    "read_recording",
    "read_voice",
    "voice_codes",
]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
VoiceEncoder: TypeAlias = Callable[[Float32], Int64]
"""From float32 ``[samples]``, whole frames, to codes int64 ``[codebooks, n]``."""
LOUDNESS = -24.0
"""LUFS: that of the voices in training."""
MAX_VOICE_SECONDS = 60.0
UNCODED = 2
"""Frames at the end of a recording that a model of synthesis does not go on from: as published."""
_PICKLED = ".pt"


class VoiceCodes:
    """The codes of voices that were encoded before, by their samples; threads may share it."""

    KEPT = 64

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Int64] = OrderedDict()
        self._lock = Lock()

    def encode(self, codec: Codec, pcm: Float32) -> Int64:
        """Return codes int64 ``[codebooks, n]`` of float32 ``[samples]``."""
        key = hashlib.sha256(np.ascontiguousarray(pcm).tobytes()).digest()
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = codec.encode(pcm)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            if len(self._kept) > self.KEPT:
                self._kept.popitem(last=False)
        return found


def find_voice(voices: Voices, given: str, *, files: bool) -> Path:
    """Return the file of a voice: of one of ``voices`` by name, or, where ``files`` may be given, of its own.

    :raises UsageError: if there is none
    """
    known = voices.find(given)
    if known is not None:
        return known
    with suppress(OSError, ValueError):  # what the system takes for no name, it may be too long for one
        if files and Path(given).is_file():
            return Path(given)
    raise voices.unknown(given, files=files)


def read_voice(path: Path, spec: ModelSpec, encode: VoiceEncoder) -> Int64 | PublishedVoice:
    """Return a voice's codes, int64 ``[codebooks, n]``, or what is published of it.

    :raises AudioFileError: if it cannot be read, is silent, too short or too long
    """
    if path.suffix == _PICKLED:
        return _published(path, spec)
    return voice_codes(_read(path, spec.sample_rate), spec, encode, where=str(path))


def find_speaker(voices: Voices, given: str, *, files: bool = True) -> Path:
    """Return the file of a voice that says texts: one of a checkpoint's, perhaps without its ending, or a file.

    Unless ``files`` may be given, it is one of ``voices``.

    :raises UsageError: if there is none
    """
    named = [name for name in voices.names if name == given or name.startswith(f"{given}.")]
    return find_voice(voices, named[0] if len(named) == 1 else given, files=files)


def read_recording(path: Path, codec: Codec) -> Int64:
    """Return the codes of a voice that a model of synthesis goes on from, int64 ``[codebooks, n]``, as loud as it is.

    :raises AudioFileError: if it cannot be read, is silent, too short or too long
    """
    spec = codec.spec
    pcm = _read(path, spec.sample_rate)
    try:
        loudness_lufs(pcm, spec.sample_rate)
    except AudioError as error:
        raise AudioFileError(f"{path}: no voice can be taken from it: {error}") from None
    return codec.encode(np.pad(pcm, (0, -len(pcm) % spec.frame_size)))[:, :-UNCODED]


def voice_codes(pcm: Float32, spec: ModelSpec, encode: VoiceEncoder, *, where: str) -> Int64:
    """Return the codes of a voice, int64 ``[codebooks, n]``, at the loudness of training; the last frame is padded.

    :raises AudioFileError: if it is silent or too short; ``where`` names it
    """
    try:
        loud = at_loudness(pcm, spec.sample_rate, LOUDNESS)
    except AudioError as error:
        raise AudioFileError(f"{where}: no voice can be taken from it: {error}") from None
    return encode(np.pad(loud, (0, -len(loud) % spec.frame_size)))


def _read(path: Path, sample_rate: int) -> Float32:
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- takes 40 ms, which conversations without a voice spare

    decoder = Decoder(path, sample_rate, "mix")
    pieces: list[Float32] = []
    try:
        while sum(map(len, pieces)) <= MAX_VOICE_SECONDS * sample_rate:
            piece = decoder.read()
            if piece is None:
                return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
            pieces.append(piece)
    finally:
        decoder.close()
    raise AudioFileError(f"{path}: longer than {MAX_VOICE_SECONDS:g} s; a voice needs four to ten, so cut it")


def _published(path: Path, spec: ModelSpec) -> PublishedVoice:
    tensors = read_tensors(path)
    inputs, ring = tensors.get("embeddings"), tensors.get("cache")
    fits = (
        inputs is not None
        and ring is not None
        and inputs.ndim == 4  # noqa: PLR2004 -- [n, 1, 1, dim]
        and inputs.shape[1:3] == (1, 1)
        and spec.dim in (None, inputs.shape[3])
        and len(inputs) > max(spec.delays) + 1
        and ring.shape[:2] == (1, spec.streams)
        and ring.dtype == np.int64
        and ring.shape[2] > max(spec.delays) + 1
    )
    if not fits or inputs is None or ring is None:
        raise AudioFileError(f"{path}: this is no voice of such a model; give one that was made for it, or a recording")
    if not np.isfinite(inputs).all():
        raise AudioFileError(f"{path}: the voice has NaN or infinity; download or make it again")
    try:
        spec.check_tokens(ring[0])
    except UsageError as error:
        raise AudioFileError(f"{path}: this is no voice of such a model ({error})") from None
    return PublishedVoice(inputs[:, 0, 0].astype(np.float32), ring[0])
