"""Conversations on the torch backend that several files of tests compare with."""

import attrs
import numpy as np
import pytest

from duplex.options import SessionOptions

FRAMES = 34
BUSY = SessionOptions(temperature=1.0, text_temperature=1.0, top_k=0, text_top_k=5, seed=3)
"""Of the neighbours."""


@pytest.fixture(scope="module")
def alone(checkpoint_reference, run, sampled):
    model = checkpoint_reference.load()
    held = run(model, options=sampled).hear(checkpoint_reference.frames[:FRAMES]).flush()
    model.close()
    return held


@pytest.fixture(scope="module")
def eight(checkpoint_reference):
    model = checkpoint_reference.load(sessions=8)
    yield model
    model.close()


def beside_neighbours(run, model, slot, frames, options):
    """Hold a conversation while the other slots start, stop, start again and are fed noise."""
    random, slots = np.random.default_rng(slot), model.spec.capacity
    for other in range(slots):
        model.open(other, attrs.evolve(BUSY, seed=other))
    held = run(model, slot, options)
    waiting = list(frames)
    while waiting:
        pcm = random.normal(0, 0.1, (slots, 1920)).astype(np.float32)
        active = random.random(slots) < 0.5
        for other in np.flatnonzero(random.random(slots) < 0.08).tolist():
            if other != slot:
                model.open(other, attrs.evolve(BUSY, seed=len(waiting)))
        pcm[slot] = waiting[0]
        result = model.step(pcm, active)
        if active[slot]:
            del waiting[0]
            held.take(result)
        else:
            assert not result.valid[slot]
    return held.flush()
