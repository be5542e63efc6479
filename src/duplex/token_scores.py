"""What a :class:`duplex.frame_model.FrameModel` may offer besides: to say how likely given tokens are."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import Conditions

__all__ = ["LONGEST_RUN", "ScoresTokens", "TokenScores"]

LONGEST_RUN = 32
"""Columns of known tokens that go through the temporal transformer in one call at most; its ring has room for them."""


@attrs.frozen(kw_only=True, eq=False)
class TokenScores:
    """How likely the model found the tokens of some steps, for each stream that it generates: text, then agent.

    ``log_probabilities`` float32 ``[batch, 1 + agent_streams, n]``, natural logarithms over the whole vocabulary at
    temperature 1; NaN where nothing was wanted. ``ranks`` int64 of the same shape: how many tokens were likelier, -1
    where nothing was wanted. ``text`` int64 ``[batch, n]`` is what the model went on with: what was wanted, or, where
    nothing was, the likeliest.
    """

    log_probabilities: NDArray[np.float32]
    ranks: NDArray[np.int64]
    text: NDArray[np.int64]


@runtime_checkable
class ScoresTokens(Protocol):
    """A model that scores tokens in its slots, side by side, by the frame path that generates them."""

    def open_for_scoring(self, slot: int, conditions: Conditions | None = None) -> None:
        """Reset a slot for :meth:`score`, without the initial step, whose scores are wanted too.

        :raises UsageError: if the model has no such condition, or does not score
        """
        ...

    def score(self, slots: Sequence[int], inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> TokenScores:
        """Advance slots, in rising order, by ``n`` steps, at most :data:`LONGEST_RUN`, and score what should come out.

        ``inputs`` int64 ``[batch, streams, n]`` are what the steps read: step s reads index ``s - 1`` of every delayed
        stream, ``UNGENERATED`` before a stream's beginning. ``targets`` int64 ``[batch, 1 + agent_streams, n]`` are
        what they are to write, index s; ``UNGENERATED`` where there is nothing to score. The depth transformer reads
        the targets before each codebook, the initial token where there is none, and the likeliest text where that is
        not given.
        """
        ...
