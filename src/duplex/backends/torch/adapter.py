"""An adapter into the weights of a language model, one tensor at a time, as they are read."""

from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from duplex.checkpoints.adapters import Adapter
from duplex.errors import WeightsError

__all__ = ["AdapterTensors"]


class AdapterTensors:
    """An adapter's open file, to be used in a ``with`` block; ``None`` is no adapter, which changes nothing."""

    def __init__(self, adapter: Adapter | None) -> None:
        self._adapter = adapter
        self._file: Any = None

    def __enter__(self) -> Self:
        if self._adapter is not None:
            try:
                opened: Any = safe_open(self._adapter.path, framework="pt")
                self._file = opened.__enter__()
            except (SafetensorError, OSError) as error:
                raise WeightsError(
                    f"{self._adapter.path} is not a readable safetensors file ({error}); download it again"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.__exit__(kind, error, traceback)

    def adapted(self, name: str, weight: Tensor) -> Tensor:
        """Return a weight, in the model's dtype and on its device, with what the adapter changes of it.

        W + scaling (B A) is computed in that dtype, as the original does where it merges an adapter.
        """
        change = None if self._adapter is None else self._adapter.info.changes.get(name)
        if self._adapter is None or change is None:
            return weight
        if change.parts:
            weight = torch.cat([self._read(part, weight) for part in change.parts])
        if change.products:
            weight = weight.clone()  # which may be the pages of the file
        for product in change.products:
            up = self._read(product.up, weight)[product.up_rows.start : product.up_rows.stop]
            down = self._read(product.down, weight)[product.down_rows.start : product.down_rows.stop]
            weight[product.rows.start : product.rows.stop] += (up @ down).mul_(self._adapter.info.scaling)
        return weight

    def factors(self, name: str, rows: NDArray[np.int64], like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return A ``[rank, in]`` and scaling B ``[out, rank]`` of some published rows of a matrix.

        They are of ``like``'s dtype and on its device; ``None`` is returned where the adapter adds nothing.
        """
        change = None if self._adapter is None else self._adapter.info.changes.get(name)
        if self._adapter is None or change is None:
            return None
        downs: list[Tensor] = []
        ups: list[Tensor] = []
        for product in change.products:
            inside = product.inside(rows)
            if not len(inside):
                continue
            up = self._read(product.up, like)[product.up_rows.start : product.up_rows.stop]
            spread = like.new_zeros((len(rows), up.shape[1]))
            spread[inside] = up[rows[inside] - product.rows.start] * self._adapter.info.scaling
            downs.append(self._read(product.down, like)[product.down_rows.start : product.down_rows.stop])
            ups.append(spread)
        return (torch.cat(downs), torch.cat(ups, dim=1)) if downs else None

    def _read(self, name: str, like: Tensor) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor.to(device=like.device, dtype=like.dtype)
