"""Formats, frames, sample rates and levels."""

import numpy as np
import pytest

from duplex.audio.pcm import Framer, Resampler, as_mono_float32, level_dbfs, to_int16
from duplex.errors import AudioError, UsageError
from duplex.transports import FileTransport


def sine(rate, seconds, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def resample(pcm, source, target, chunk):
    resampler = Resampler(source, target)
    pieces = [resampler.push(pcm[start : start + chunk]) for start in range(0, pcm.size, chunk)]
    return np.concatenate([*pieces, resampler.flush()])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", ">f8"])
def test_floats_are_taken_as_they_are(dtype):
    converted = as_mono_float32(np.array([0.5, -2.0], dtype=dtype))
    assert converted.dtype == np.float32
    assert converted.dtype.isnative
    assert converted.tolist() == [0.5, -2.0]


@pytest.mark.parametrize("dtype", [np.int16, ">i2"])
def test_int16_is_scaled(dtype):
    assert as_mono_float32(np.array([-32768, 0, 16384], dtype=dtype)).tolist() == [-1.0, 0.0, 0.5]


def test_float32_is_not_copied():
    pcm = np.zeros(4, dtype=np.float32)
    assert np.shares_memory(as_mono_float32(pcm), pcm)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 3), dtype=np.float32), r"shape \(2, 3\).*average"),
        (np.float32(1), "shape"),
        (np.zeros(3, dtype=np.uint8), "uint8.*convert"),
        (np.zeros(3, dtype=np.int32), "int32.*convert"),
        (np.zeros(3, dtype=np.float16), "float16.*convert"),
        (np.zeros(3, dtype=np.complex64), "complex64"),
        ([[1.0], [1.0, 2.0]], "not an array"),
        ("hello", "one str.*shape"),
        (FileTransport("question.wav"), r"one FileTransport.*Conversation\(model, transport\)"),
        (["a"], "type"),
        ([0.0, np.nan], "sample 1.*nan_to_num"),
        (np.array([np.inf], dtype=np.float32), "sample 0"),
        (np.array([1e300]), "infinity at sample 0"),
    ],
)
def test_unusable_audio_is_refused(bad, words):
    with pytest.raises(AudioError, match=words) as caught:
        as_mono_float32(bad)
    assert "\n" not in str(caught.value)


def test_int16_round_trip_is_exact():
    samples = np.arange(-32768, 32768).astype(np.int16)
    assert np.array_equal(to_int16(as_mono_float32(samples)), samples)


def test_to_int16_clips_rounds_and_silences_nan():
    pcm = np.array([2.0, -2.0, 1.0, 1.6 / 32768, np.nan, np.inf, -np.inf, 3e38], dtype=np.float32)
    assert to_int16(pcm).tolist() == [32767, -32768, 32767, 2, 0, 32767, -32768, 32767]


@pytest.mark.parametrize(
    ("pcm", "level"),
    [([], -120), ([0.0] * 9, -120), ([1e-9] * 9, -120), ([1.0, -1.0], 0), ([0.1] * 9, -20), ([1e-30] * 3, -120)],
)
def test_level(pcm, level):
    assert level_dbfs(np.array(pcm, dtype=np.float32)) == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize("chunk", [1, 7, 1920, 1921, 5000])
def test_framer_loses_nothing(chunk):
    pcm = np.arange(10_000, dtype=np.float32)
    framer = Framer(1920)
    frames = [f for start in range(0, pcm.size, chunk) for f in framer.push(pcm[start : start + chunk])]
    assert len(frames) == 5
    assert framer.pending == 400
    last = framer.flush()
    assert last is not None
    assert framer.pending == 0
    assert framer.flush() is None
    joined = np.concatenate([*frames, last])
    assert np.array_equal(joined[:10_000], pcm)
    assert not joined[10_000:].any()
    assert joined.dtype == np.float32


def test_frames_are_fresh():
    framer = Framer(2)
    buffer = np.ones(3, dtype=np.float32)
    (frame,) = framer.push(buffer)
    buffer[:] = 9
    assert frame.tolist() == [1, 1]
    assert framer.push(buffer[:1])[0].tolist() == [1, 9]


def test_framer_wants_a_positive_size():
    with pytest.raises(UsageError, match="frame_size"):
        Framer(0)


@pytest.mark.parametrize("source", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [0, 1, 1000, 44103])
def test_resampled_length(source, samples):
    resampled = resample(np.zeros(samples, dtype=np.float32), source, 24000, 997)
    assert abs(resampled.size - round(samples * 24000 / source)) <= 1


@pytest.mark.parametrize(("source", "target"), [(48000, 24000), (16000, 24000), (44100, 24000)])
def test_resampling_keeps_the_time_and_the_tone(source, target):
    resampled = resample(sine(source, 1.0), source, target, 1000)
    assert np.abs(resampled - sine(target, 1.0))[200:-200].max() < 1e-3


def test_pieces_do_not_matter():
    pcm = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    whole = resample(pcm, 44100, 24000, pcm.size)
    assert np.allclose(resample(pcm, 44100, 24000, 1), whole, atol=1e-6)


def test_equal_rates_change_nothing():
    pcm = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(resample(pcm, 24000, 24000, 33), pcm)


def test_a_resampler_starts_afresh_after_flush():
    resampler = Resampler(48000, 24000)
    pcm = sine(48000, 0.2)
    first = np.concatenate([resampler.push(pcm), resampler.flush()])
    second = np.concatenate([resampler.push(pcm), resampler.flush()])
    assert np.array_equal(first, second)


def test_strided_input():
    pcm = np.repeat(sine(48000, 0.1), 2)
    assert np.array_equal(resample(pcm[::2], 48000, 24000, 500), resample(pcm[::2].copy(), 48000, 24000, 500))


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001])
def test_rates_out_of_range(rate):
    with pytest.raises(AudioError, match=f"{rate} Hz; give one from 1000 to 768000"):
        Resampler(rate, 24000)
    with pytest.raises(AudioError, match="Hz"):
        Resampler(24000, rate)
