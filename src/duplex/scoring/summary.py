"""The scores of one dialogue as arrays, and what they sum up to."""

import math
from array import array
from collections.abc import AsyncIterable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import ModelSpec
from duplex.scoring.recorded import STATES
from duplex.scoring.stream import FrameScore

__all__ = ["DialogueScores"]

Int64 = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class DialogueScores:
    """The scores of a dialogue, a column a frame: see :class:`duplex.scoring.FrameScore`.

    ``tokens`` and ``ranks`` int64, ``log_probabilities`` float32, ``[1 + agent_streams, n]``; ``states`` int64 ``[n]``
    are indices of :data:`STATES`, ``None`` where it is not known who speaks.
    """

    tokens: Int64
    log_probabilities: NDArray[np.float32]
    ranks: Int64
    states: Int64 | None
    frame_duration: float
    words: tuple[int, int]
    """The tokens of the text that are no word: padding and end of padding."""

    @classmethod
    async def of(cls, frames: AsyncIterable[FrameScore], states: Int64 | None, spec: ModelSpec) -> "DialogueScores":
        """Put the frames of a dialogue together, as they come."""
        tokens, likely, ranks = array("q"), array("f"), array("q")
        async for frame in frames:
            tokens.extend(frame.tokens.tolist())
            likely.extend(frame.log_probabilities.tolist())
            ranks.extend(frame.ranks.tolist())
        shape = -1, 1 + spec.agent_streams
        return cls(
            tokens=np.frombuffer(tokens, np.int64).reshape(shape).T,
            log_probabilities=np.frombuffer(likely, np.float32).reshape(shape).T,
            ranks=np.frombuffer(ranks, np.int64).reshape(shape).T,
            states=states,
            frame_duration=spec.frame_duration,
            words=(spec.text_padding, spec.text_end_of_padding),
        )

    @property
    def streams(self) -> list[str]:
        """The names of the rows."""
        return ["text", *(f"agent_{index}" for index in range(len(self.tokens) - 1))]

    @property
    def at(self) -> NDArray[np.float64]:
        """Where each frame starts, in seconds."""
        return np.array([index * self.frame_duration for index in range(self.tokens.shape[1])], np.float64)

    def summary(self) -> dict[str, Any]:
        """Return sums and perplexities: of each stream, of words, while the agent speaks or is silent, and by state."""
        every = np.ones(self.tokens.shape[1], np.bool_)
        by: dict[str, Any] = {"words": {"text": _figures(self.log_probabilities[0][self._worded()])}}
        if self.states is not None:
            speech = self.states >= STATES.index("agent")
            by |= {"agent_speech": self._streams(speech), "agent_silence": self._streams(~speech)}
            by |= {name: self._streams(self.states == index) for index, name in enumerate(STATES)}
        return {
            "frames": self.tokens.shape[1],
            "seconds": round(self.tokens.shape[1] * self.frame_duration, 6),
            "sum": _total(self.log_probabilities),
            "streams": self._streams(every),
            "by": by,
        }

    def _worded(self) -> NDArray[np.bool_]:
        return ~np.isin(self.tokens[0], self.words)

    def _streams(self, frames: NDArray[np.bool_]) -> dict[str, Any]:
        chosen = self.log_probabilities[:, frames]
        each = {name: _figures(row) for name, row in zip(self.streams, chosen, strict=True)}
        return {**each, "agent": _figures(chosen[1:]), "all": _figures(chosen)}


def _figures(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return how many tokens are scored, the sum of their log-probabilities, and the perplexity."""
    count = int(np.isfinite(scores).sum())
    total = _total(scores)
    return {"tokens": count, "sum": total, "perplexity": math.exp(min(-total / count, 700)) if count else None}


def _total(scores: NDArray[np.float32]) -> float:
    return float(np.nansum(scores, dtype=np.float64))
