"""The user's microphone signal: speech in a room, with noise, music, bystanders, and the echo of the agent."""

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.training.data.augmentation import add_reverberation, augment, music, noise
from duplex.training.data.sentences import sentence
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice

__all__ = ["microphone_signal"]

Float32 = NDArray[np.float32]
USER_DBFS = (-36.0, -18.0)
SHARE_OF_ECHO = 0.4
ECHO_DB = (-40.0, -14.0)
ECHO_DELAY = (0.02, 0.25)
ECHO_TAPS = 160
SHARE_OF_INTERLUDES = 0.6
INTERLUDE_SECONDS = (2.0, 9.0)
INTERLUDE_DBFS = (-50.0, -20.0)
SHARE_OF_BYSTANDERS = 0.2
SHARE_OF_MUSIC = 0.35
BYSTANDER_DBFS = (-60.0, -42.0)
LOUDEST = 0.98


def microphone_signal(
    user: Float32, agent: Float32, quiet: list[tuple[float, float]], bystander: Voice, rng: np.random.Generator
) -> Float32:
    """Return the user's channel, float32 ``[samples]``, from the clean speech of user and agent.

    ``quiet`` lists the user's pauses, as start and end in seconds: noise, music or a bystander is added to some.
    """
    level = level_dbfs(user) if user.any() else 0.0
    gain = 10 ** ((rng.uniform(*USER_DBFS) - level) / 20)
    sound = augment(user * np.float32(gain), SAMPLE_RATE, rng)
    for start, end in quiet:
        if rng.random() < SHARE_OF_INTERLUDES:
            _interlude(sound, start, end, bystander, rng)
    if rng.random() < SHARE_OF_ECHO:
        sound = sound + _echo(agent, rng)
    peak = float(np.abs(sound).max(initial=0))
    return sound if peak <= LOUDEST else sound * np.float32(LOUDEST / peak)


def _interlude(sound: Float32, start: float, end: float, bystander: Voice, rng: np.random.Generator) -> None:
    """Add noise, music or a bystander's speech at a random position of a pause, in place."""
    seconds = min(rng.uniform(*INTERLUDE_SECONDS), end - start)
    first = round((start + rng.uniform(0, end - start - seconds)) * SAMPLE_RATE)
    samples = min(round(seconds * SAMPLE_RATE), len(sound) - first)
    kind = rng.random()
    if kind < SHARE_OF_BYSTANDERS:
        sound[first : first + samples] += _murmur(samples, bystander, rng)
    else:
        make = music if kind < SHARE_OF_BYSTANDERS + SHARE_OF_MUSIC else noise
        sound[first : first + samples] += make(samples, SAMPLE_RATE, rng, rng.uniform(*INTERLUDE_DBFS))


def _murmur(samples: int, bystander: Voice, rng: np.random.Generator) -> Float32:
    """Return a bystander's speech: quiet, reverberant, and off topic."""
    speech = np.zeros(0, np.float32)
    while len(speech) < samples:
        speech = np.concatenate([speech, bystander.speak(sentence(rng), rng)])
    far = add_reverberation(speech[:samples], SAMPLE_RATE, rng)
    return far * np.float32(10 ** ((rng.uniform(*BYSTANDER_DBFS) - level_dbfs(far)) / 20))


def _echo(agent: Float32, rng: np.random.Generator) -> Float32:
    """Return the acoustic echo of the agent: delayed, filtered and attenuated."""
    delay = round(rng.uniform(*ECHO_DELAY) * SAMPLE_RATE)
    taps = np.exp(-np.arange(ECHO_TAPS) / rng.uniform(2, 40)) * rng.standard_normal(ECHO_TAPS)
    taps[0] = 1.0
    gain = 10 ** (rng.uniform(*ECHO_DB) / 20) / np.sqrt(np.sum(taps**2))
    late = np.pad(agent, (delay, 0))[: len(agent)]
    return np.asarray(np.convolve(late, taps * gain)[: len(agent)], np.float32)
