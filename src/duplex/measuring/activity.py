"""When each channel of a recording has speech, in one pass over both. Blocking, in bounded memory.

1. A second of each channel is decoded at a time; both go through the detector together.
2. A window is speech from a probability of 0.5 on, and stays so until one below 0.35. Silero's probability stays up
   for about two windows (64 ms) after the last sound, which are taken off. Nothing is joined here: that is the
   definitions' business.
3. A channel that ends first is silent from there on.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from duplex.audio.pcm import SILENCE_DBFS, Resampler, as_mono_float32, check_rate
from duplex.frame_model import Frame
from duplex.measuring.dialogue import SPEAKERS, DialogueMeasures, measure_turns
from duplex.measuring.settings import Settings
from duplex.voice_activity.silero import SileroVoiceActivity

__all__ = ["RATE", "Activity", "Channel", "detect", "measure_audio"]

Float32 = NDArray[np.float32]
RATE = 16000
"""Hertz at which speech is looked for."""
ONSET, END = 0.5, 0.35
RELEASE = 2
"""Windows by which Silero is late at an end, the median of two synthesizers at noise of -65 and -45 dBFS."""
LEVEL_WINDOW = 160
_NOTHING = np.zeros(0, np.int64)


class Channel(Protocol):
    """One channel of a recording at :data:`RATE`."""

    def read(self) -> Float32 | None:
        """Return the next second or so, float32 ``[samples]``, or ``None`` after the last."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class Activity:
    """When one channel has speech: float64 ``[n, 2]`` in seconds; its duration, and its highest level in dBFS."""

    times: NDArray[np.float64]
    duration: float
    peak: float


class _Listener(Protocol):
    window: float
    late: float
    """Seconds by which ends are found too late."""

    def hear(self, pieces: Sequence[Float32]) -> list[list[bool]]: ...


class _Silero:
    def __init__(self, channels: int) -> None:
        self._detectors = [SileroVoiceActivity(RATE) for _ in range(channels)]
        self._speaking = [False] * channels
        self.window: float = self._detectors[0].window
        self.late: float = RELEASE * self.window

    def hear(self, pieces: Sequence[Float32]) -> list[list[bool]]:
        frames = [Frame(at=0.0, user_pcm=pcm, agent_pcm=None, text=0, agent=_NOTHING, user=_NOTHING) for pcm in pieces]
        found = SileroVoiceActivity.hear_batch(list(zip(self._detectors, frames, strict=True)))
        return [list(self._decided(channel, each)) for channel, each in enumerate(found)]

    def _decided(self, channel: int, probabilities: Sequence[float]) -> Iterator[bool]:
        for probability in probabilities:
            self._speaking[channel] = probability >= (END if self._speaking[channel] else ONSET)
            yield self._speaking[channel]


class _Level:
    late: float = 0.0

    def __init__(self, channels: int, level: float) -> None:
        self.window: float = LEVEL_WINDOW / RATE
        self._least = 10 ** (level / 10)
        self._rest = [np.zeros(0, np.float32)] * channels

    def hear(self, pieces: Sequence[Float32]) -> list[list[bool]]:
        return [self._decided(channel, pcm) for channel, pcm in enumerate(pieces)]

    def _decided(self, channel: int, pcm: Float32) -> list[bool]:
        samples = np.concatenate([self._rest[channel], pcm])
        whole = len(samples) - len(samples) % LEVEL_WINDOW
        self._rest[channel] = samples[whole:]
        power = np.square(samples[:whole].reshape(-1, LEVEL_WINDOW), dtype=np.float64).mean(axis=1)
        return (power > self._least).tolist()


def detect(
    channels: Sequence[Channel], settings: Settings, heard: Callable[[float], None] | None = None
) -> list[Activity]:
    """Return when each channel has speech; ``heard`` is told the seconds so far.

    :raises AudioFileError: what a channel raises
    """
    count = len(channels)
    listener: _Listener = _Silero(count) if settings.detector == "silero" else _Level(count, settings.level)
    decided = [array("b") for _ in channels]
    samples, peaks = [0] * count, [0.0] * count
    for pieces in _in_step(channels, samples, peaks):
        for windows, found in zip(decided, listener.hear(pieces), strict=True):
            windows.extend(found)
        if heard is not None:
            heard(max(samples) / RATE)
    return [
        Activity(
            times=_times(windows, listener, length / RATE),
            duration=length / RATE,
            peak=max(20 * float(np.log10(peak)), SILENCE_DBFS) if peak > 0 else SILENCE_DBFS,
        )
        for windows, length, peak in zip(decided, samples, peaks, strict=True)
    ]


def _in_step(channels: Sequence[Channel], samples: list[int], peaks: list[float]) -> Iterator[list[Float32]]:
    """Yield pieces of the same length of all channels, a second of silence behind them for windows that are not full.

    ``samples`` and ``peaks`` are kept up to date.
    """
    waiting = [np.zeros(0, np.float32) for _ in channels]
    open_ = [True] * len(channels)
    while any(open_):
        for index, channel in enumerate(channels):
            if open_[index] and len(waiting[index]) < RATE:
                pcm = channel.read()
                if pcm is None:
                    open_[index] = False
                    continue
                samples[index] += len(pcm)
                peaks[index] = max(peaks[index], float(np.abs(pcm).max(initial=0.0)))
                waiting[index] = np.concatenate([waiting[index], pcm])
        going = [len(each) for index, each in enumerate(waiting) if open_[index]]
        length = min(going) if going else max(map(len, waiting)) + RATE
        pieces = [np.pad(each[:length], (0, max(length - len(each), 0))) for each in waiting]
        waiting = [each[length:] for each in waiting]
        yield pieces


def _times(windows: "array[int]", listener: _Listener, duration: float) -> NDArray[np.float64]:
    """Return starts and ends of runs of windows with speech, cut off where the channel ends."""
    flags = np.frombuffer(windows, np.int8) if windows else np.zeros(0, np.int8)
    changes = np.flatnonzero(np.diff(flags, prepend=np.int8(0), append=np.int8(0))).reshape(-1, 2)
    times = np.minimum(changes * listener.window - [0.0, listener.late], duration)
    return times[times[:, 0] < times[:, 1]]


@attrs.define
class _Samples:
    """A channel in memory."""

    pcm: Float32 | None

    def read(self) -> Float32 | None:
        pcm, self.pcm = self.pcm, None
        return pcm


def measure_audio(
    first: ArrayLike,
    second: ArrayLike,
    sample_rate: int,
    *,
    speakers: tuple[str, str] = SPEAKERS,
    settings: Settings | None = None,
) -> DialogueMeasures:
    """Measure a dialogue from the samples of each speaker's channel, float32 or int16 ``[samples]``.

    :param sample_rate: of both, in hertz
    :raises AudioError: if the samples or the rate cannot be used
    """
    settings = settings or Settings()
    check_rate(sample_rate)
    channels: list[_Samples] = []
    for pcm in (first, second):
        resampler = Resampler(sample_rate, RATE)
        channels.append(_Samples(np.concatenate([resampler.push(as_mono_float32(pcm)), resampler.flush()])))
    found = detect(channels, settings)
    return measure_turns(
        found[0].times,
        found[1].times,
        duration=max(each.duration for each in found),
        speakers=speakers,
        settings=settings,
    )
