"""A stream follows its device's clock, and not what a sound server guesses about the times of its blocks."""

import numpy as np
import pytest
from microphone_support import RATE

from duplex.transports.microphone.clocks import ClockedStream

BLOCK = 480


def wandering(seconds):
    """Return what PulseAudio's times are off by: milliseconds that come and go within seconds, and some noise."""
    random, blocks = np.random.default_rng(3), round(seconds * 100)
    steps = np.repeat(random.normal(0, 0.0015, blocks // 400 + 2), 400)
    slow = np.convolve(steps, np.ones(200) / 200, "valid")[:blocks]
    return slow + random.normal(0, 0.0003, blocks)


def places(ppm, late, **options):
    """Return where the grid has each second of the device's clock, and the stream; the sound is a rising line."""
    stream, rate, pieces = ClockedStream(48000, RATE, **options), 48000 * (1 + ppm * 1e-6), []
    for block, off in enumerate(late):
        line = (block * BLOCK + np.arange(BLOCK)) / 48000
        stream.push(line.astype(np.float32), 50 + block * BLOCK / rate + off)
        pieces.extend(stream.take())
    at, heard = zip(*((start + np.arange(pcm.size), pcm) for start, pcm in pieces), strict=True)
    return np.interp(np.arange(2, late.size // 100 - 1), np.concatenate(heard), np.concatenate(at) / RATE), stream


@pytest.mark.parametrize("ppm", [-200.0, -20.0, 0.0, 200.0])
def test_two_streams_of_one_clock_stay_together_though_the_times_of_one_wander(ppm):
    steady, _ = places(ppm, np.zeros(12000))
    wandered, stream = places(ppm, wandering(120))
    apart = wandered - steady
    assert np.abs(np.diff(apart)).max() < 150e-6  # in a second: what an echo canceller does not mind
    assert np.ptp(apart) < 0.006
    assert stream.anchors == 1
    assert abs(stream.drift_ppm - ppm) < 60


def test_times_that_are_off_for_a_moment_move_nothing():
    late = np.zeros(2000)
    late[1000:1020] = 0.2  # a server that stood still, and delivers what it has kept
    placed, stream = places(0.0, late)
    assert stream.anchors == 1
    assert np.abs(np.diff(placed) - 1.0).max() < 0.0001


def test_a_first_time_that_is_wrong_is_mended_within_a_second():
    late = np.zeros(1000)
    late[:20] = -0.014
    placed, stream = places(0.0, late)
    assert stream.anchors == 2
    assert np.abs(placed - 50 - np.arange(2, 9)).max() < 0.001


@pytest.mark.parametrize("lost", [0.01, 0.02, 0.08])
def test_samples_that_a_server_has_lost_without_a_word_are_silence_at_once(lost):
    late = np.where(np.arange(1000) < 500, 0.0, lost)
    placed, stream = places(0.0, late)
    expected = 50 + np.arange(2, 9) + np.where(np.arange(2, 9) < 6, 0.0, lost)
    assert np.abs(placed - expected)[np.arange(2, 9) != 5].max() < 0.001  # in its third of a second it is found
    assert stream.anchors == 2
    assert abs(stream.drift_ppm) < 20


def test_the_block_in_which_it_is_found_does_not_decide_how_much():
    late = np.where(np.arange(1000) < 500, 0.0, 0.012)
    late[529:531] += 0.006
    placed, _ = places(0.0, late)
    assert np.abs(placed - 50 - np.arange(2, 9) - 0.012)[-3:].max() < 0.001


def test_a_loudspeakers_times_are_guesses():
    late = np.where(np.arange(1000) < 500, 0.0, 0.02)
    _, stream = places(0.0, late, finds_losses=False)
    assert stream.anchors == 1


def test_a_guess_that_is_mended_at_once_moves_nothing():
    away = np.concatenate([np.zeros(200), np.linspace(0, -0.02, 500), np.full(500, -0.008)])
    placed, stream = places(0.0, away)
    assert stream.anchors == 1
    assert np.ptp(placed - 50 - np.arange(2, 11)) < 0.004
