"""Conversations on the torch backend that several files of tests compare with."""

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
