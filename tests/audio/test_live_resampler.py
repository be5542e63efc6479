"""The resampler of lines: in time, whole, without aliases."""

import numpy as np
import pytest

from duplex.audio.live_resampler import LiveResampler
from duplex.errors import AudioError

RATES = [(24000, 8000), (8000, 24000), (24000, 16000), (16000, 24000), (44100, 24000)]


def sine(frequency, rate, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def converted(pcm, source, target, size):
    resampler = LiveResampler(source, target)
    pieces = [resampler.push(pcm[start : start + size]) for start in range(0, len(pcm), size)]
    return np.concatenate([*pieces, resampler.flush()])


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("seconds", [0.02, 0.08])
def test_what_goes_in_comes_out_at_once(source, target, seconds):
    """Behind by a few milliseconds, and always by as many: a caller that plays what it has hears no gap."""
    resampler, behind = LiveResampler(source, target), []
    came = 0
    for n in range(1, 100):
        came += resampler.push(np.zeros(round(source * seconds), np.float32)).size
        behind.append(n * seconds - came / target)
    assert min(behind) >= 0
    assert max(behind) < 0.003
    assert max(behind) - min(behind) < 2 / min(source, target)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("frequency", [300, 1000, 3400])
def test_the_band_of_a_telephone_keeps_its_time_and_tone(source, target, frequency):
    heard, wanted = converted(sine(frequency, source), source, target, 480), sine(frequency, target)
    assert abs(heard.size - wanted.size) <= 1
    assert np.abs(heard[300:-300] - wanted[300 : heard.size - 300]).max() < (1e-3 if frequency < 3400 else 0.05)
    assert 20 * np.log10(np.std(heard[300:-300]) / np.std(wanted)) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize(("source", "target"), [(24000, 8000), (24000, 16000), (44100, 24000)])
@pytest.mark.parametrize("place", [0.62, 0.8])
def test_what_is_above_the_band_is_gone(source, target, place):
    frequency = min(place * target, 0.45 * source)
    heard = converted(sine(frequency, source), source, target, 480)[300:-300]
    assert 20 * np.log10(np.std(heard) / np.std(sine(frequency, source))) < -90


def test_pieces_do_not_matter():
    pcm = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    assert np.allclose(converted(pcm, 24000, 8000, 7), converted(pcm, 24000, 8000, pcm.size), atol=1e-6)


def test_it_begins_anew_after_the_end():
    resampler, pcm = LiveResampler(24000, 8000), sine(440, 24000, 0.2)
    first, second = (np.concatenate([resampler.push(pcm), resampler.flush()]) for _ in range(2))
    assert np.array_equal(first, second)


def test_equal_rates_change_nothing():
    resampler, pcm = LiveResampler(24000, 24000), sine(440, 24000, 0.1)
    assert np.array_equal(resampler.push(pcm), pcm)
    assert resampler.flush().size == 0


def test_nothing_and_slices_are_taken():
    resampler, pcm = LiveResampler(24000, 8000), sine(440, 24000, 0.2)
    assert resampler.push(pcm[:0]).size == 0
    assert np.array_equal(converted(pcm[::2], 24000, 8000, 100), converted(pcm[::2].copy(), 24000, 8000, 100))


@pytest.mark.parametrize("rate", [0, 999, 768_001])
def test_rates_out_of_range(rate):
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        LiveResampler(rate, 24000)
