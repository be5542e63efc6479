"""Who speaks when, from probabilities and levels."""

import pytest

from duplex.conversation.turns import AgentTurns, Turn, UserTurns

WINDOW = 0.032


def user(probabilities, turns=None):
    turns = turns or UserTurns()
    return [turn for i, p in enumerate(probabilities) if (turn := turns.update(p, i))]


def agent(levels, turns=None):
    turns = turns or AgentTurns()
    return [turn for i, level in enumerate(levels) if (turn := turns.update(level, i))]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.5, 0.5], [Turn(True, 0, 0.5)]),
        ([0.9, 0.4, 0.9, 0.8], [Turn(True, 2, 0.8)]),
        ([0.9, 0.1] * 20, []),
        ([0.49] * 20, []),
        ([0.9] * 2 + [0.3] * 10, [Turn(True, 0, 0.9), Turn(False, 2, 0.3)]),
        ([0.9] * 2 + [0.3] * 9 + [0.35] + [0.1] * 9, [Turn(True, 0, 0.9)]),
        ([0.9] * 2 + [0.35] * 30, [Turn(True, 0, 0.9)]),
        (
            [0.9] * 3 + [0.0] * 12 + [0.7] * 2,
            [Turn(True, 0, 0.9), Turn(False, 3, 0.0), Turn(True, 15, 0.7)],
        ),
    ],
)
def test_user(probabilities, expected):
    assert user(probabilities) == expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([-20, -20], [Turn(True, 0)]),
        ([-20, -90, -20], [Turn(True, 0)]),
        ([-20, -90, -90, -20, -90, -90, -20], []),
        ([-90, -20, -90, -20], [Turn(True, 1)]),
        ([-45, -45, -45], []),
        ([-44.9, -44.9], [Turn(True, 0)]),
        ([-20] * 3 + [-45] * 5, [Turn(True, 0), Turn(False, 3)]),
        ([-20] * 3 + [-90] * 4 + [-20] + [-90] * 4, [Turn(True, 0)]),
        ([-20] * 2 + [-90] * 5 + [-20] * 2, [Turn(True, 0), Turn(False, 2), Turn(True, 7)]),
        ([-20] * 2 + [-90] * 4 + [-20] + [-90] * 5, [Turn(True, 0), Turn(False, 7)]),
    ],
)
def test_agent(levels, expected):
    assert agent(levels) == expected


def test_starts_and_stops_take_turns():
    levels = [-20 if (i * 7919) % 11 < 5 else -90 for i in range(500)]
    found = agent(levels)
    assert [turn.started for turn in found] == [i % 2 == 0 for i in range(len(found))]
    assert [turn.at for turn in found] == sorted(turn.at for turn in found)
