"""The part of the conformance suite that is about scoring tokens: see :class:`duplex.frame_model.ScoresTokens`."""

# ruff: noqa: S101 -- a failed check is an AssertionError, as in any test

import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.delays import delayed
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, FrameModel, ScoresTokens, TokenScores
from duplex.options import SessionOptions
from duplex.testing.tracks import Track, run_frames

__all__ = ["check_scoring"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0)
TOLERANCE = 1e-3
"""Of natural logarithms of probabilities."""


def check_scoring(model: FrameModel, heard: Float32) -> None:
    """Check that what a model with three slots chooses greedily is what it finds likeliest, whatever runs beside.

    :raises AssertionError: with a sentence that says what was wrong
    """
    if not isinstance(model, ScoresTokens) or not model.spec.agent_streams:
        return
    model.open(0, GREEDY)
    inputs, targets = _columns(model, np.stack(run_frames(model, 0, heard, Track()).tokens, axis=1))
    try:
        model.open_for_scoring(1)
    except UsageError:  # as it was loaded with guidance
        return
    alone = _scored(model, [1], inputs, targets, steps=inputs.shape[1])
    _check_shapes(alone, targets)
    known = targets != UNGENERATED
    assert (alone.log_probabilities[0][known] <= 0).all(), "a token has a probability above 1"
    single = _scored(model, [1], inputs, targets, steps=1)
    assert (single.ranks[0][known] == 0).all(), "a token chosen greedily is not the likeliest"
    _expect_near(single.log_probabilities[0], alone, "step by step")
    beside = _scored(model, [0, 2], inputs, targets, steps=3)
    for row in range(2):
        _expect_near(beside.log_probabilities[row], alone, "side by side")
    free = targets.copy()
    free[0] = UNGENERATED
    chosen = _scored(model, [1], inputs, free, steps=1)
    assert (chosen.text[0] == targets[0]).all(), "where no text is wanted, it is not what was chosen greedily"
    assert np.isnan(chosen.log_probabilities[0, 0]).all(), "text that is not wanted is scored"


def _columns(model: FrameModel, tokens: Int64) -> tuple[Int64, Int64]:
    shifted = delayed(tokens, model.spec.delays)[:, : tokens.shape[1]]
    before = np.full((len(tokens), 1), UNGENERATED, np.int64)
    return np.concatenate([before, shifted[:, :-1]], axis=1), shifted[: 1 + model.spec.agent_streams]


def _scored(model: ScoresTokens, slots: list[int], inputs: Int64, targets: Int64, *, steps: int) -> TokenScores:
    """Return the scores of the same tokens in each slot, so many steps at a time."""
    for slot in slots:
        model.open_for_scoring(slot)
    found: list[TokenScores] = []
    for start in range(0, targets.shape[1], steps):
        piece = [np.repeat(each[None, :, start : start + steps], len(slots), axis=0) for each in (inputs, targets)]
        found.append(model.score(slots, *piece))
    return TokenScores(
        log_probabilities=np.concatenate([scores.log_probabilities for scores in found], axis=2),
        ranks=np.concatenate([scores.ranks for scores in found], axis=2),
        text=np.concatenate([scores.text for scores in found], axis=1),
    )


def _check_shapes(scores: TokenScores, targets: Int64) -> None:
    for name in ("log_probabilities", "ranks"):
        shape = getattr(scores, name).shape
        assert shape == (1, *targets.shape), f"the scores' {name} are {shape}, not {(1, *targets.shape)}"
    missing = targets == UNGENERATED
    assert (np.isnan(scores.log_probabilities[0]) == missing).all(), "a token that is not wanted is scored"
    assert ((scores.ranks[0] == -1) == missing).all(), "the rank of a token that is not wanted is not -1"


def _expect_near(found: Float32, expected: TokenScores, how: str) -> None:
    difference = np.nanmax(np.abs(found - expected.log_probabilities[0]))
    assert difference <= TOLERANCE, f"scored {how}, log-probabilities differ by {difference}"
