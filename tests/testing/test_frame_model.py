"""The values that cross the model's border check themselves."""

import json

import attrs
import numpy as np
import pytest

from duplex.codec import CodecSpec
from duplex.errors import UsageError
from duplex.options import SessionOptions


@pytest.mark.parametrize("name", ["temperature", "text_temperature"])
@pytest.mark.parametrize("value", ["hot", "0.5", b"1", True, np.True_, [0.5], 1j, -1, 101, 10**400, float("nan")])
def test_what_is_no_temperature(name, value):
    with pytest.raises(UsageError, match=rf"^{name} is .*; give a number"):
        SessionOptions(**{name: value})


@pytest.mark.parametrize("name", ["top_k", "text_top_k", "seed"])
@pytest.mark.parametrize("value", [2.5, 2.0, "7", False, np.True_, [7], float("nan"), -1, 2**64])
def test_what_is_no_whole_number(name, value):
    with pytest.raises(UsageError, match=rf"^{name} is .*; give a .*number"):
        SessionOptions(**{name: value})


@pytest.mark.parametrize("value", [1, "no", None])
def test_greedy_is_yes_or_no(value):
    with pytest.raises(UsageError, match=r"^greedy is .*True or False"):
        SessionOptions(greedy=value)


def test_options_are_plain_numbers():
    options = SessionOptions(temperature=np.float32(0.5), top_k=np.int32(3), seed=np.uint64(2**63), greedy=np.True_)
    assert options == SessionOptions(temperature=0.5, top_k=3, seed=2**63, greedy=True)
    assert json.loads(json.dumps(attrs.asdict(options)))["seed"] == 2**63
    assert type(SessionOptions(temperature=1).temperature) is float
    assert SessionOptions().temperature is SessionOptions().seed is None


def test_bitrate_is_the_published_one():
    mimi = CodecSpec(sample_rate=24000, frame_size=1920, codebooks=8, vocabulary=2048)
    assert mimi.bitrate == pytest.approx(1100)
