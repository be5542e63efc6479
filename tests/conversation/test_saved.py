"""Saved conversations: what bytes are taken, and what is damaged."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from duplex.conversation.saved import SavedConversation
from duplex.errors import StateError
from duplex.frame_model import SessionState

STATE = SessionState(metadata={"version": "1"}, tensors={"seat.index": np.array([5]), "ring": np.zeros((2, 3))})
SAVED = SavedConversation("s1", 2**64 - 1, 9, {"turns": np.ones(4)}, STATE).to_bytes()


def changed(**tensors):
    """The saved conversation with other tensors; ``None`` leaves one out."""
    metadata = json.loads(SAVED[8 : 8 + int.from_bytes(SAVED[:8], "little")])["__metadata__"]
    every = load(SAVED) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return save({name: tensor for name, tensor in every.items() if tensor is not None}, metadata)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes(kind):
    saved = SavedConversation.from_bytes(kind(SAVED))
    assert (saved.session_id, saved.seed, saved.sequence) == ("s1", 2**64 - 1, 9)
    assert (list(saved.session), sorted(saved.slot.tensors)) == (["turns"], ["ring", "seat.index"])


@pytest.mark.parametrize("data", ["state", 5, None, [1, 2], np.zeros(3)])
def test_what_is_no_bytes(data):
    with pytest.raises(StateError, match="is bytes, not"):
        SavedConversation.from_bytes(data)


@pytest.mark.parametrize(
    "index", [None, np.zeros(0, np.int64), np.array(3), np.array([[3]]), np.array([3.0]), np.array([-1])], ids=repr
)
def test_a_place_on_the_time_line_that_is_none(index):
    assert SavedConversation.from_bytes(changed(seat__index=np.array([7, 6])))
    with pytest.raises(StateError, match=r"seat\.index"):
        SavedConversation.from_bytes(changed(seat__index=index))
