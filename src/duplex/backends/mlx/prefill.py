"""Known tokens into a slot of this backend (see :mod:`duplex.prefilling`)."""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex import prefilling
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.sampling import Plan
from duplex.backends.mlx.state import Call, SlotState
from duplex.prefilling import LONGEST_RUN
from duplex.slots import Slot

__all__ = ["LONGEST_RUN", "prefill"]


def prefill(lm: LanguageModel, state: SlotState, slot: Slot, tokens: NDArray[np.int64]) -> int:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``; return its new number of frames."""
    return prefilling.prefill(_Thinker(lm, state, slot), lm.config, slot, tokens)


class _Thinker:
    def __init__(self, lm: LanguageModel, state: SlotState, slot: Slot) -> None:
        self._lm, self._state, self._slot = lm, state, slot

    def fetch(self) -> NDArray[np.int64]:
        return np.array(self._state[f"{self._lm.key}.tokens"]).astype(np.int64)

    def push(self, ring: NDArray[np.int64]) -> None:
        self._state[f"{self._lm.key}.tokens"] = mx.array(ring.astype(np.int32))

    def think(self, columns: NDArray[np.int64]) -> None:
        count = columns.shape[1]
        call = self._call(count)
        self._lm.temporal(mx.array(columns.astype(np.int32))[None], call)
        call.advance(f"{self._lm.key}.step", count)
        mx.eval(self._state)

    def step(self, user: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        heard, fixed = (mx.array(tokens.astype(np.int32))[None] for tokens in (user, known))
        self._lm(heard, self._call(1), Plan.of([self._slot.options]), fixed)
        mx.eval(self._state)

    def _call(self, steps: int) -> Call:
        """Return a call that advances the slot by so many steps."""
        return Call([self._state], self._state[f"{self._lm.key}.step"].item() + steps)
