"""Prefill of a slot of this backend (see :mod:`duplex.backends.shared.prefilling`)."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from duplex.backends.shared import prefilling
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Slot, SlotState

__all__ = ["LONGEST_RUN", "prefill"]


def prefill(lm: LanguageModel, rows: SlotState, slot: Slot, tokens: NDArray[np.int64]) -> Iterator[None]:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``, in pieces."""
    return prefilling.prefill(_Target(lm, rows, slot), lm.config, slot, tokens)


class _Target:
    def __init__(self, lm: LanguageModel, rows: SlotState, slot: Slot) -> None:
        self._lm, self._rows, self._slot = lm, rows, slot
        self._held = rows.tensors[f"{lm.key}.tokens"]
        self._counted = rows.tensors[f"{lm.key}.step"]

    def fetch(self) -> NDArray[np.int64]:
        return self._held[0].cpu().numpy().copy()

    def push(self, ring: NDArray[np.int64]) -> None:
        self._held.copy_(torch.as_tensor(ring[None]))

    def forward(self, columns: NDArray[np.int64]) -> None:
        count = columns.shape[1]
        call = Call(self._rows, filled=int(self._counted) + count)
        self._lm.temporal(torch.as_tensor(columns[None]).to(self._held.device), call)
        call.advance(f"{self._lm.key}.step", count)

    def step(self, user: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        device = self._held.device
        call = Call(self._rows, filled=int(self._counted) + 1)
        heard, fixed = (torch.as_tensor(tokens[None]).to(device) for tokens in (user, known))
        self._lm(heard, call, Sampling.of([self._slot.options]), fixed)
