"""Prefill of a slot of this backend (see :mod:`duplex.backends.shared.prefilling`)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from duplex.backends.mlx.arrays import evaluate, from_numpy, to_numpy, whole_number
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, SlotState
from duplex.backends.shared import prefilling
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.backends.shared.slots import Slot

__all__ = ["LONGEST_RUN", "prefill", "prefill_embedded"]


def prefill(
    lm: LanguageModel, state: SlotState, slot: Slot, tokens: NDArray[np.int64], frames: int | None = None
) -> Iterator[None]:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``, by at most ``frames``, in pieces."""
    return prefilling.prefill(_Target(lm, state, slot), lm.config, slot, tokens, frames)


def prefill_embedded(
    lm: LanguageModel, state: SlotState, slot: Slot, inputs: NDArray[np.float32], tokens: NDArray[np.int64]
) -> Iterator[None]:
    """Advance one slot over sums of embeddings float32 ``[n, dim]``, in pieces."""
    return prefilling.prefill_embedded(_Target(lm, state, slot), lm.config, slot, inputs, tokens)


class _Target:
    def __init__(self, lm: LanguageModel, state: SlotState, slot: Slot) -> None:
        self._lm, self._state, self._slot = lm, state, slot

    def fetch(self) -> NDArray[np.int64]:
        return to_numpy(self._state[f"{self._lm.key}.tokens"]).astype(np.int64)

    def push(self, ring: NDArray[np.int64]) -> None:
        self._state[f"{self._lm.key}.tokens"] = from_numpy(ring)

    def forward(self, columns: NDArray[np.int64]) -> None:
        count = columns.shape[1]
        call = self._call(count)
        self._lm.temporal(from_numpy(columns)[None], call)
        call.advance(f"{self._lm.key}.step", count)
        evaluate(self._state)

    def forward_embedded(self, inputs: NDArray[np.float32]) -> None:
        call = self._call(len(inputs))
        self._lm.transformer(from_numpy(inputs)[None].astype(self._lm.out_norm.weight.dtype), call)
        call.advance(f"{self._lm.key}.step", len(inputs))
        evaluate(self._state)

    def step(self, user: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        heard, fixed = (from_numpy(tokens)[None] for tokens in (user, known))
        self._lm(heard if len(user) else None, self._call(1), Sampling.of([self._slot.options]), fixed)
        evaluate(self._state)

    def _call(self, steps: int) -> Call:
        """Return a call that advances the slot by so many steps."""
        return Call([self._state], whole_number(self._state[f"{self._lm.key}.step"]) + steps)
