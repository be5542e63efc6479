"""Known tokens that a conversation begins after: what they may be, and what is refused before it begins."""

import numpy as np
import pytest

import duplex
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, ZERO

pytestmark = pytest.mark.anyio
STREAMS, USER = 5, slice(3, 5)
"""Of a model without weights: text, two of the agent, two of the user."""


def history(columns=6, dtype=np.int64, **rows):
    """Return known tokens, but for ``rows``: a row's number after an ``r``, and what its last column has."""
    made = np.ones((STREAMS, columns), dtype)
    for row, token in rows.items():
        made[int(row[1:]), -1] = token
    return made


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (history(r3=UNGENERATED), r"-2 in row 3, column 5.*rows 3 to 4"),
        (history(r4=UNGENERATED), r"-2 in row 4, column 5"),
        (np.full((STREAMS, 4), UNGENERATED), r"-2 in row 3, column 0"),
        (history(r0=-3), "stream 0 run from -3"),
        (history(r4=-3), "stream 4 run from -3"),
        (history(r0=10**6), "stream 0 run from 1 to 1000000"),
        (history(r2=10**6), "stream 2"),
        (history(r4=10**6), "stream 4"),
        (history().astype(np.float32), "float32"),
        (history().astype(np.bool_), "bool"),
        (history()[:4], r"shape \[5, n\]"),
        (history()[0], r"shape \[5, n\]"),
        (history().tolist(), r"history is list; give an array, int64 \[5, n\]"),
        (7, "history is int"),
        ("tokens.safetensors", "history is str"),
    ],
)
async def test_what_is_no_history(models, given, told):
    with pytest.raises(UsageError, match=told):
        duplex.Conversation(models(), history=given)


@pytest.mark.parametrize(
    "given",
    [
        history(r0=UNGENERATED, r1=UNGENERATED),
        history(r1=ZERO, r4=ZERO),
        history(dtype=np.int32),
        history(dtype=np.uint16),
        history(columns=0),
    ],
)
async def test_what_is_one(models, given):
    async with duplex.Conversation(models(), history=given) as conversation:
        found = [event async for event in conversation.run(np.zeros(3 * 1920, np.float32))]
    assert [event.at for event in found if isinstance(event, duplex.AgentAudio)] == [0, 0.08, 0.16]


async def test_it_is_taken_as_it_was_given(models):
    """The array is the caller's again at once."""
    told = []
    for spoilt in (False, True):
        given = history()
        conversation = duplex.Conversation(models(), history=given)
        if spoilt:
            given[:] = 10**6
        async with conversation:
            told.append([event.as_dict() async for event in conversation.run(np.zeros(1920, np.float32))][1:])
    assert told[0] == told[1]
