"""Segments of dialogues: what a step sees, and what is kept apart from it."""

import attrs
import numpy as np
import pytest
from language_model_support import CONFIG, QUICK, some_data, some_dialogue

from duplex.training.dialogues.shards import write_dialogues
from duplex.training.language_model.segments import SegmentSampler


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


def test_stretches_depend_on_the_step(data):
    stretches = SegmentSampler(data, CONFIG, QUICK)
    assert stretches.batch(0).shape == (2, 18, 16)
    assert np.array_equal(stretches.batch(3), stretches.batch(3))
    assert not np.array_equal(stretches.batch(3), stretches.batch(4))
    assert not np.array_equal(stretches.batch(3), stretches.batch(3, rank=1))
    assert stretches.seconds == pytest.approx(16 * 0.08)
    long = SegmentSampler(data, CONFIG, attrs.evolve(QUICK, frames=200))
    assert long.batch(0).shape == (2, 18, 200)


def test_takes_of_a_dialogue_are_not_on_both_sides(data, tmp_path):
    """Neighbours may be takes of the same words: what validates is not known from training."""
    takes = [some_dialogue(30, seed=index // 3) for index in range(60)]
    write_dialogues(tmp_path / "takes.safetensors", takes, SegmentSampler(data, CONFIG, QUICK).provenance)
    segments = SegmentSampler(tmp_path, CONFIG, attrs.evolve(QUICK, frames=30))
    trained, validated = (
        {row.tobytes() for index in range(200) for row in draw(index)} for draw in (segments.batch, segments.validation)
    )
    assert len(trained) == 19
    assert len(validated) == 1
    assert not trained & validated


def test_a_single_dialogue_is_for_both(data, tmp_path):
    write_dialogues(tmp_path / "one.safetensors", [some_dialogue(30)], SegmentSampler(data, CONFIG, QUICK).provenance)
    segments = SegmentSampler(tmp_path, CONFIG, attrs.evolve(QUICK, frames=30))
    assert np.array_equal(segments.batch(0), segments.validation(0))
