"""Data augmentation: reverberation, telephone bandwidth, noise and music."""

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler, level_dbfs

__all__ = ["add_reverberation", "augment", "music", "noise"]

Float32 = NDArray[np.float32]
TELEPHONE_RATE = 8000


def augment(pcm: Float32, sample_rate: int, rng: np.random.Generator) -> Float32:
    """Return speech, float32 ``[samples]``, with random reverberation, telephone bandwidth or noise in 2 of 5 cases."""
    place = rng.random()
    if place < 0.12:  # noqa: PLR2004 -- a share
        pcm = add_reverberation(pcm, sample_rate, rng)
    elif place < 0.25:  # noqa: PLR2004 -- a share
        pcm = limit_to_telephone_band(pcm, sample_rate)
    if rng.random() < 0.25:  # noqa: PLR2004 -- a share
        ratio_db = rng.uniform(8, 35)
        pcm = pcm + noise(len(pcm), sample_rate, rng, level_dbfs(pcm) - ratio_db)
    return pcm


def limit_to_telephone_band(pcm: Float32, sample_rate: int) -> Float32:
    """Return audio limited to the bandwidth of a sample rate of 8 kHz."""
    narrow = Resampler(sample_rate, TELEPHONE_RATE)
    wide = Resampler(TELEPHONE_RATE, sample_rate)
    band = np.concatenate([narrow.push(pcm), narrow.flush()])
    restored = np.concatenate([wide.push(band), wide.flush()])[: len(pcm)]
    return np.pad(restored, (0, len(pcm) - len(restored)))


def noise(samples: int, sample_rate: int, rng: np.random.Generator, dbfs: float) -> Float32:
    """Return coloured noise, hum, or a chord, at a level in dBFS."""
    kind = rng.random()
    if kind < 0.7:  # noqa: PLR2004 -- a share
        slope = rng.uniform(0, 2)  # 0 is white, 1 pink, 2 brown
        spectrum = np.fft.rfft(rng.standard_normal(samples))
        spectrum *= np.maximum(np.arange(len(spectrum)), samples * 30 / sample_rate) ** (-slope / 2)
        sound = np.fft.irfft(spectrum, samples)
    else:
        root = rng.uniform(45, 600)
        time = np.arange(samples) / sample_rate
        partials = [1, 2, 3] if kind < 0.85 else [1, 1.26, 1.5, 2]  # noqa: PLR2004 -- hum, or a major chord
        sound = sum(np.sin(2 * np.pi * root * part * time + rng.uniform(0, 6)) / part for part in partials)
        sound = sound * (1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 4) * time))
    sound = np.asarray(sound, np.float32)
    return sound * np.float32(10 ** ((dbfs - level_dbfs(sound)) / 20))


def music(samples: int, sample_rate: int, rng: np.random.Generator, dbfs: float) -> Float32:
    """Return a random melody over chords, in half of the cases with drums, at a level in dBFS."""
    beat = round(60 / rng.uniform(70, 150) * sample_rate)
    root, bright, drums = rng.uniform(90, 260), rng.uniform(0.3, 1.2), rng.random() < 0.5  # noqa: PLR2004 -- a share
    sound = np.zeros(samples + 4 * beat, np.float32)
    for index, start in enumerate(range(0, samples, beat)):
        if index % 4 == 0:
            third, step = rng.choice([3, 4]), rng.choice([-5, 0, 2, 5, 7])
            for interval in (0, third, 7):
                _add_note(sound, start, 4 * beat, root * 2 ** ((step + interval) / 12), sample_rate, bright / 2)
        note = root * 2 ** (1 + rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        _add_note(sound, start, beat, note, sample_rate, bright)
        if drums:
            length = beat // 4
            sound[start : start + length] += rng.standard_normal(length) * np.exp(-np.arange(length) / length * 6)
    sound = sound[:samples]
    return sound * np.float32(10 ** ((dbfs - level_dbfs(sound)) / 20))


def _add_note(sound: Float32, start: int, length: int, hertz: float, sample_rate: int, bright: float) -> None:
    """Add a decaying note, in place."""
    time = np.arange(length) / sample_rate
    partials = sum(np.sin(2 * np.pi * hertz * part * time) * bright ** (part - 1) / part for part in (1, 2, 3, 4))
    fades = np.minimum(1, time / 0.01) * np.exp(-3 * np.arange(length) / length)
    sound[start : start + length] += np.asarray(partials * fades, np.float32)


def add_reverberation(pcm: Float32, sample_rate: int, rng: np.random.Generator) -> Float32:
    """Return audio convolved with a synthetic room impulse response: the direct sound, then decaying noise."""
    seconds = rng.uniform(0.1, 0.5)
    length = round(seconds * sample_rate)
    decay = np.exp(-6.9 * np.arange(length) / length)  # 60 dB over its length
    response = rng.standard_normal(length) * decay
    response[: round(0.003 * sample_rate)] = 0
    response *= rng.uniform(0.2, 0.7) / np.sqrt(np.sum(response**2))
    response[0] = 1
    size = 1 << (len(pcm) + length).bit_length()
    wet = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size)[: len(pcm)]
    return np.asarray(wet, np.float32)
