"""What the loudspeaker explains of what is heard, though the echo's delay jumps."""

import numpy as np
import pytest

from duplex.transports.microphone.echo_path import EchoPath

RATE, PIECE, LEAD = 24000, 480, 0.02


def white(seconds, seed):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def delayed(pcm, seconds):
    return np.roll(pcm, round(seconds * RATE))


def follow(far, near):
    """Return what was explained at each piece, in decibels, and whether the delay has jumped."""
    path, early = EchoPath(RATE, LEAD), delayed(far, -LEAD)
    told = []
    for i in range(0, far.size, PIECE):
        path.add(near[i : i + PIECE], early[i : i + PIECE])
        told.append((path.explain(), path.is_elsewhere))
        path.stay()
    explained, jumped = zip(*told, strict=True)
    return np.array(explained), np.flatnonzero(jumped) * PIECE / RATE


@pytest.mark.parametrize(("before", "after"), [(0.005, 0.024), (0.024, 0.005), (0.0, 0.035), (0.005, 0.0065)])
def test_a_jump_of_the_delay_is_found_and_the_response_kept(before, after):
    far, at = white(4.0, 1), 2 * RATE
    near = 0.4 * np.concatenate([delayed(far, before)[:at], delayed(far, after)[at:]])
    explained, jumps = follow(far, near)
    assert jumps.size == 1
    assert 2.0 <= jumps[0] < 2.1
    assert explained[round(2.1 * RATE / PIECE) :].min() > 10


def test_what_is_learnt_of_noise_at_first_is_mended():
    far, noise = white(6.0, 1), white(6.0, 2)
    near = np.where(np.arange(far.size) < RATE, noise, 0.4 * delayed(far, 0.024)).astype(np.float32)
    explained, _ = follow(far, near)
    assert explained[5 * RATE // PIECE :].min() > 10


def test_clocks_that_drift_apart_are_no_jump():
    far = white(6.0, 1)
    places = np.arange(far.size) * (1 - 100e-6)
    explained, jumps = follow(far, 0.4 * np.interp(places, np.arange(far.size), far).astype(np.float32))
    assert jumps.size == 0
    assert explained[RATE // PIECE :].min() > 3


def test_a_voice_is_not_explained_and_moves_nothing():
    far, voice = white(6.0, 1), white(6.0, 2)
    explained, jumps = follow(far, voice)
    assert jumps.size == 0
    assert explained.max() < 2
    begins = np.where(np.arange(far.size) < 3 * RATE, 0.0, voice) + 0.2 * delayed(far, 0.005)
    explained, jumps = follow(far, begins.astype(np.float32))
    assert jumps.size == 0
    assert explained[round(3.1 * RATE / PIECE) :].max() < 2
