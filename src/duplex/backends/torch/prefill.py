"""Prefill of a slot of this backend (see :mod:`duplex.backends.shared.prefilling`)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from duplex.backends.shared import prefilling
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Slot, SlotState

__all__ = ["LONGEST_RUN", "prefill", "prefill_embedded"]


def prefill(
    lm: LanguageModel, rows: SlotState, slot: Slot, tokens: NDArray[np.int64], frames: int | None = None
) -> Iterator[None]:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``, by at most ``frames``, in pieces."""
    return prefilling.prefill(_Target(lm, rows, slot), lm.config, slot, tokens, frames)


def prefill_embedded(
    lm: LanguageModel, rows: SlotState, slot: Slot, inputs: NDArray[np.float32], tokens: NDArray[np.int64]
) -> Iterator[None]:
    """Advance one slot over sums of embeddings float32 ``[n, dim]``, in pieces."""
    return prefilling.prefill_embedded(_Target(lm, rows, slot), lm.config, slot, inputs, tokens)


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
        call = self._call(columns.shape[1])
        with self._adapting(call):
            self._lm.temporal(torch.as_tensor(columns[None]).to(self._held.device), call)
        call.advance(f"{self._lm.key}.step", columns.shape[1])

    def forward_embedded(self, inputs: NDArray[np.float32]) -> None:
        call = self._call(len(inputs))
        weight = self._lm.text_linear.weight
        with self._adapting(call):
            self._lm.transformer(torch.as_tensor(inputs[None]).to(weight.device, weight.dtype), call)
        call.advance(f"{self._lm.key}.step", len(inputs))

    def step(self, user: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        device = self._held.device
        call = self._call(1)
        heard, fixed = (torch.as_tensor(tokens[None]).to(device) for tokens in (user, known))
        self._lm(heard if len(user) else None, call, Sampling.of([self._slot.options]), fixed)

    def _adapting(self, call: Call) -> AbstractContextManager[None]:
        return self._lm.adapting(call, adapted=self._slot.options.adapter is not None)

    def _call(self, steps: int) -> Call:
        """Return a call that advances the slot by so many steps."""
        return Call(self._rows, filled=int(self._counted) + steps)
