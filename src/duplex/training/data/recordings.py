"""Own recordings as training data; all of them are validated before the first shard is made."""

import os
import zlib
from pathlib import Path

import attrs
import numpy as np

from duplex.audio.decoding import Decoder
from duplex.audio.folders import AUDIO_SUFFIXES, find_audio
from duplex.errors import CorpusError
from duplex.training.data.corpus import QUIETEST_PEAK
from duplex.training.data.plan import SHARD_SECONDS, SpeechJob
from duplex.training.data.sources import RecordedSource
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Role

__all__ = ["plan_recordings"]

SHORTEST = 1.0


@attrs.frozen
class _Measured:
    """The measurements of a recording."""

    path: Path
    rate: int
    seconds: float
    peaks: tuple[float, ...]
    """The peak of each part that may become a shard."""


def plan_recordings(folder: Path, out: Path, *, role: Role = "user", resample: bool = False) -> list[SpeechJob]:
    """Return the jobs for a folder of recordings, after validating every recording.

    :raises CorpusError: if the folder has no recordings, or they have several sample rates or one that is not 24 kHz
        (unless ``resample``), or one is silent or shorter than a second
    :raises AudioFileError: if one is damaged, or holds NaN or infinity
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; give one with recordings")
    paths = sorted(find_audio(folder))
    if not paths:
        raise CorpusError(f"{folder} has no recordings ({', '.join(sorted(AUDIO_SUFFIXES))}); give another folder")
    measured = [_measure(path) for path in paths]
    if not resample:
        _check_rates(measured)
    return [
        SpeechJob(
            path=out / f"{path.stem}-{zlib.crc32(os.fsencode(path.relative_to(folder))):08x}-{index:04}.safetensors",
            source=RecordedSource(path, path.stem, role, index * SHARD_SECONDS),
            seconds=min(SHARD_SECONDS, recording.seconds - index * SHARD_SECONDS),
            seed=0,
        )
        for recording in measured
        for path in [recording.path]
        for index, peak in enumerate(recording.peaks)
        if peak >= QUIETEST_PEAK  # silent parts are of no use
    ]


def _measure(path: Path) -> _Measured:
    decoder = Decoder(path, SAMPLE_RATE, "mix")
    rate = decoder.source_rate
    samples, stretch = 0, SHARD_SECONDS * SAMPLE_RATE
    peaks: list[float] = []
    try:
        while (piece := decoder.read()) is not None:
            while piece.size:
                part, piece = np.split(piece, [stretch - samples % stretch])
                if samples % stretch == 0:
                    peaks.append(0.0)
                peaks[-1] = max(peaks[-1], float(np.abs(part).max()))
                samples += len(part)
    finally:
        decoder.close()
    seconds = samples / SAMPLE_RATE
    if max(peaks) < QUIETEST_PEAK:
        raise CorpusError(f"{path} is silent (peak {max(peaks):.4f}); remove it from the recordings")
    if seconds < SHORTEST:
        raise CorpusError(f"{path} is {seconds:.2f} s long; remove it, or join it with others")
    return _Measured(path, rate, seconds, tuple(peaks))


def _check_rates(measured: list[_Measured]) -> None:
    first = measured[0]
    for recording in measured:
        if recording.rate != first.rate:
            raise CorpusError(
                f"{recording.path} has a sample rate of {recording.rate} Hz, and {first.path} one of {first.rate} Hz; "
                "convert them to 24000 Hz, or let that be done with --resample"
            )
    if first.rate != SAMPLE_RATE:
        raise CorpusError(
            f"{first.path} has a sample rate of {first.rate} Hz; convert the recordings to {SAMPLE_RATE} Hz, "
            "or let that be done with --resample"
        )
