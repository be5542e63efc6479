"""Dialogues with exact times: sounds on two channels, and files of them."""

from types import SimpleNamespace

import numpy as np

from cli_support import write_wav
from duplex.errors import DuplexError
from duplex.measuring import Settings, find_dialogues
from duplex.measuring.one import measure_source

RATE = 16000
LEFT = [(1.0, 3.0), (3.5, 4.5), (8.0, 9.0)]
RIGHT = [(4.0, 6.0), (6.5, 7.5)]
"""A pause of 0.5 s each, an overlap of 0.5 s to the right, a gap of 0.5 s to the left."""


def measure_here(*given, settings=None, **options):
    """Find dialogues and measure them in this process: the results without the files of them."""
    return [_measured(source, settings or Settings(detector="level")) for source in find_dialogues(given, **options)]


def _measured(source, settings):
    try:
        if source.problem is not None:
            raise source.problem
        measures, notes = measure_source(source, settings)
    except DuplexError as error:
        return SimpleNamespace(source=source, error=error, summary={}, notes=[])
    return SimpleNamespace(source=source, error=None, summary=measures.summary(), notes=notes)


def sounds(times, seconds, rate=RATE, seed=0):
    """Bursts of noise at -20 dBFS, float32 ``[samples]``."""
    pcm = np.zeros(round(seconds * rate), np.float32)
    burst = np.random.default_rng(seed)
    for start, end in times:
        stretch = slice(round(start * rate), round(end * rate))
        pcm[stretch] = 0.1 * burst.standard_normal(len(pcm[stretch]))
    return pcm


def stereo(seconds=10.0, rate=RATE, left=LEFT, right=RIGHT):
    """Float32 ``[samples, 2]``."""
    return np.stack([sounds(left, seconds, rate), sounds(right, seconds, rate, seed=1)], axis=1)


def save(path, pcm, rate=RATE):
    """Write 16-bit sound, float32 ``[samples, channels]``."""
    return write_wav(path, pcm, rate)


def recording(path, **options):
    """Write a stereo recording of the dialogue above."""
    rate = options.get("rate", RATE)
    return save(path, stereo(**options), rate)
