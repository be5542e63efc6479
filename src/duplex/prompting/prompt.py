"""A prompt: what a model is fed before the first frame of a conversation."""

import hashlib
from functools import cached_property
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, ModelSpec

__all__ = ["EmbeddedColumns", "Prompt", "known_history"]

Int64 = NDArray[np.int64]


@attrs.frozen(eq=False)
class EmbeddedColumns:
    """Columns of which only the model's inputs are known: a published voice without its codes.

    ``inputs`` float32 ``[n, dim]`` are sums of embeddings, one a step. ``tokens`` int64 ``[streams, n]`` is what is
    known of the same columns (``ZERO`` elsewhere); the last ``max(delays)`` of them are complete.
    """

    inputs: NDArray[np.float32]
    tokens: Int64


@attrs.frozen(eq=False)
class Prompt:
    """``columns`` int64 ``[streams, n]`` for :meth:`duplex.frame_model.FrameModel.prefill`, after ``embedded``.

    ``voice`` int64 ``[agent_streams, m]`` are codes that a model of synthesis goes on from
    (:meth:`duplex.synthesis.protocol.Says.imitate`); ``later`` is how many time steps more than ``length`` come out
    that are part of the beginning.
    """

    columns: Int64
    embedded: EmbeddedColumns | None = None
    voice: Int64 | None = None
    later: int = 0

    @property
    def length(self) -> int:
        """Time steps."""
        return self.columns.shape[1] + (0 if self.embedded is None else self.embedded.tokens.shape[1])

    @cached_property
    def key(self) -> str:
        """Hexadecimal SHA-256 of all of it: prompts with the same key leave a model in the same state."""
        total = hashlib.sha256(np.ascontiguousarray(self.columns).tobytes())
        if self.embedded is not None:
            total.update(np.ascontiguousarray(self.embedded.inputs).tobytes())
            total.update(np.ascontiguousarray(self.embedded.tokens).tobytes())
        if self.voice is not None:
            total.update(np.ascontiguousarray(self.voice).tobytes())
        return total.hexdigest()

    @property
    def known(self) -> bool:
        """Whether it leaves nothing to choose: then its state is the same for all sessions."""
        return not (self.columns == UNGENERATED).any()

    def check(self, spec: ModelSpec) -> None:
        """Check that a model can be fed this.

        :raises UsageError: if its tokens do not fit, or it is longer than what the model remembers
        """
        spec.check_tokens(self.columns)
        _check_heard(self.columns, spec)
        if self.length > spec.context:
            raise UsageError(
                f"the conversation would begin with {self.length} frames, and the model remembers {spec.context} "
                f"({spec.seconds(spec.context):.0f} s); shorten the instructions, the voice or the history"
            )

    def followed_by(self, columns: Int64) -> "Prompt":
        """Return this prompt with more columns after it."""
        return attrs.evolve(self, columns=np.concatenate([self.columns, columns], axis=1))


def known_history(history: object, spec: ModelSpec) -> Int64 | None:
    """Return a copy of known tokens, int64 ``[streams, n]``; ``None`` for no columns.

    What the model said it may choose anew (``UNGENERATED``); what the user said must be there.

    :raises UsageError: if it is something else, a token is out of range, or one of the user's is not known
    """
    if not isinstance(history, np.ndarray):
        raise UsageError(f"history is {type(history).__name__}; give an array, int64 [{spec.streams}, n]")
    tokens = cast("NDArray[Any]", history)
    spec.check_tokens(tokens)
    _check_heard(tokens, spec)
    return tokens.astype(np.int64) if tokens.shape[1] else None


def _check_heard(columns: Int64, spec: ModelSpec) -> None:
    """Check that columns say what the user said.

    :raises UsageError: if one does not
    """
    first = spec.text_streams + spec.agent_streams
    unknown = np.argwhere(columns[first:] == UNGENERATED)
    if len(unknown):
        row, column = unknown[0]
        raise UsageError(
            f"what a conversation begins with has {UNGENERATED} in row {first + row}, column {column}; a model chooses "
            f"its own tokens alone, so give the user's (rows {first} to {spec.streams - 1}), or leave the column out"
        )
