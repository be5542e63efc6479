"""Weights with adapters beside them, one for each session that asked for it: low-rank products, grouped by adapter.

The sum W + B A is not computed. A wide product is the same for all rows of a batch; then each adapter that one of them
has adds its narrow products to the rows that are its own, and exactly zero to the others. Which rows those are is told
on the device (:class:`AdapterRows`), so a recorded step, or a captured graph, serves for any choice.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from duplex.backends.torch import kernels, torchscript
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.onednn import OneDnnInt8, OneDnnWeight
from duplex.backends.torch.quantize import Quantized

__all__ = ["NO_ADAPTER", "Adapted", "AdapterRows", "LowRankSum", "gathered", "grouped"]

NO_ADAPTER = 0
"""The number of a row without an adapter; the others count from 1."""


@attrs.define(eq=False)
class AdapterRows:
    """Which adapter the rows of the present call have; all adapted weights of a model look here."""

    numbers: Tensor | None = None
    """int64 ``[batch]``; ``None`` while no row has one."""
    used: Tensor | None = None
    """int64 ``[groups]``: the numbers that occur, on a CPU."""
    masks: Tensor | None = None
    """bool ``[groups, batch]``: whose each group is."""

    @contextmanager
    def of(self, numbers: Tensor) -> Generator[None]:
        """Have the products in the block computed for rows of these numbers, int64 ``[batch]``."""
        self.numbers = numbers
        if not kernels.apply_to(numbers):
            occurring: Tensor = cast(Any, torch).unique(numbers)  # which torch leaves untyped
            used = occurring[occurring != NO_ADAPTER]
            self.used, self.masks = used, numbers == used[:, None]
        try:
            yield
        finally:
            self.numbers = self.used = self.masks = None


@attrs.frozen(eq=False)
class LowRankSum:
    """What adapters add to one product, the scaling in ``up``; of lower ranks the rest is zero."""

    down: Tensor
    """``[adapters, rank, in]``"""
    up: Tensor
    """``[adapters, out, rank]``"""
    rows: AdapterRows

    def added_to(self, y: Tensor, x: Tensor) -> Tensor:
        """Return ``y`` ``[batch, ..., out]``, the product of ``x`` ``[batch, ..., in]``, with what is added to it."""
        rows = self.rows
        if rows.numbers is None:
            return y
        if rows.used is None or rows.masks is None:
            return gathered(y, x, self.down, self.up, rows.numbers)
        return torchscript.as_traced(grouped)(y, x, self.down, self.up, rows.used, rows.masks)


def grouped(y: Tensor, x: Tensor, down: Tensor, up: Tensor, used: Tensor, masks: Tensor) -> Tensor:
    """Add one adapter after the other: each is read once, where it lies, whatever the number of its rows.

    In a recorded step it is TorchScript, so that any number of groups takes the same program.
    """
    for group in range(used.shape[0]):
        adapter = int(used[group]) - 1
        own = masks[group].to(x.dtype).unsqueeze(-1)
        if x.dim() > own.dim():
            own = own.unsqueeze(-1)
        y = y + functional.linear(functional.linear(x, down[adapter]) * own, up[adapter])
    return y


def gathered(y: Tensor, x: Tensor, down: Tensor, up: Tensor, numbers: Tensor) -> Tensor:
    """Add to each row its own adapter's: the host need not know how many there are, as a captured graph wants it."""
    own, has = (numbers - 1).clamp(min=0), (numbers != NO_ADAPTER).to(x.dtype)
    narrow = torch.bmm(x.reshape(len(numbers), -1, x.shape[-1]), down.index_select(0, own).mT) * has[:, None, None]
    return y + torch.bmm(narrow, up.index_select(0, own).mT).view(y.shape)


@attrs.frozen(eq=False)
class Adapted:
    """A matrix ``[out, in]`` of any kind, and what adapters add to its product."""

    base: Tensor | Quantized | OneDnnWeight | OneDnnInt8 | PackedInt4
    added: LowRankSum
