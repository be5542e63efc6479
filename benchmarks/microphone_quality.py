"""Measures of `microphone.py rooms`: what is left of the user's voice, and of the agent's echo.

Each is NaN without its package; `missing` says which to install.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from duplex.conversation.turns import UserTurns
from duplex.frame_model import Frame
from duplex.voice_activity.silero import SileroVoiceActivity

__all__ = ["aecmos", "intelligibility", "missing", "quality", "speech_starts"]

Samples = NDArray[np.floating[Any]]
NEEDED = {"pesq": "pesq", "pystoi": "pystoi", "speechmos": "speechmos", "librosa": "librosa (for speechmos)"}
FRAME, WIDE = 1920, 16000
NOTHING = np.zeros(0, np.int64)


def missing() -> list[str]:
    """Return the packages whose measures are left out."""
    return [what for name, what in NEEDED.items() if importlib.util.find_spec(name) is None]


def speech_starts(pcm: Samples, rate: int) -> list[float]:
    """Return when, in seconds, the detector of a conversation finds that the user begins to speak."""
    detector, turns, starts = SileroVoiceActivity(rate), UserTurns(), []
    for number in range(pcm.size // FRAME):
        heard = pcm[number * FRAME : (number + 1) * FRAME].astype(np.float32)
        frame = Frame(at=number * FRAME / rate, user_pcm=heard, agent_pcm=None, text=0, agent=NOTHING, user=NOTHING)
        for probability in detector.hear(frame):
            turn = turns.update(probability, number * FRAME / rate)
            starts += [turn.at] if turn is not None and turn.started else []
    return starts


def quality(clean: Samples, heard: Samples, rate: int) -> float:
    """Return wide-band PESQ."""

    def measure() -> float:
        from pesq import pesq  # noqa: PLC0415

        return pesq(WIDE, at_16_khz(clean, rate), at_16_khz(heard, rate), "wb")

    return or_nan(measure)


def intelligibility(clean: Samples, heard: Samples, rate: int) -> float:
    """Return STOI, after taking out by how much a canceller delays: the measure itself aligns nothing."""
    size = 1 << (2 * clean.size).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(clean, size)), size)
    delay = int(np.argmax(likeness[: rate // 20]))
    clean, heard = clean[: clean.size - delay], heard[delay:]

    def measure() -> float:
        from pystoi import stoi  # noqa: PLC0415

        return float(stoi(at_16_khz(clean, rate), at_16_khz(heard, rate), WIDE))

    return or_nan(measure)


def aecmos(far: Samples, near: Samples, out: Samples, rate: int, talk: str) -> tuple[float, float]:
    """Return AECMOS for the echo and for other degradations, 1 to 5; talk is "st" (the far end's alone) or "dt"."""

    def measure() -> tuple[float, float]:
        from speechmos import aecmos as network  # noqa: PLC0415

        sounds = {"lpb": far, "mic": near, "enh": out}
        sample = {name: np.clip(at_16_khz(pcm, rate), -1, 1) for name, pcm in sounds.items()}
        found = network.run(sample, WIDE, talk_type=talk)
        return found["echo_mos"], found["deg_mos"]

    return or_nan(measure, (math.nan, math.nan))


def at_16_khz(pcm: Samples, rate: int) -> Samples:
    """Return a recording at the rate of these measures."""
    return soxr.resample(pcm, rate, WIDE)


def or_nan(measure: Callable[[], Any], otherwise: Any = math.nan) -> Any:
    """Measure, if the package is there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return measure()
    except ImportError:
        return otherwise
