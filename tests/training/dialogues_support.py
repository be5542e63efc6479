"""What the tests of training dialogues share."""

import numpy as np

from duplex.training.data.voices import Voice

SPEAKER = Voice(name="m3", engine="espeak", variants=("en-us+m3",))


FRAME = 0.08


def rng_of(seed=0):
    return np.random.default_rng(seed)
