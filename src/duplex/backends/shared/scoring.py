"""What backends do alike to score tokens (:class:`duplex.frame_model.ScoresTokens`)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.sampling_defaults import DEFAULT_OPTIONS
from duplex.errors import UsageError
from duplex.frame_model import TokenScores

__all__ = ["SCORING", "check_scoring", "scored_alone"]

Int64 = NDArray[np.int64]
SCORING = DEFAULT_OPTIONS
"""Options of a slot whose tokens are scored; nothing is sampled in it."""


def check_scoring(*, guided: bool, scripted: bool) -> None:
    """Check that a model's slots can be opened for scoring.

    :raises UsageError: if it was loaded with guidance, or says texts
    """
    if guided:
        raise UsageError("tokens are scored without guidance, and the model was loaded with it; leave guidance out")
    if scripted:
        raise UsageError("a model of synthesis scores no tokens; give a model that holds dialogues")


def scored_alone(
    score: Callable[[Sequence[int], Int64, Int64], TokenScores], slots: Sequence[int], inputs: Int64, targets: Int64
) -> TokenScores:
    """Score every slot in the shape of one row, so that neighbours cannot change a rounding."""
    each = [score([slot], inputs[[row]], targets[[row]]) for row, slot in enumerate(slots)]
    return TokenScores(
        log_probabilities=np.concatenate([scores.log_probabilities for scores in each]),
        ranks=np.concatenate([scores.ranks for scores in each]),
        text=np.concatenate([scores.text for scores in each]),
    )
