"""An adapter into the weights of a language model, one tensor at a time, as they are read."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from duplex.backends.mlx.arrays import from_numpy, to_numpy
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import TensorBlock, mlx_tensor_blocks
from duplex.errors import WeightsError

__all__ = ["AdapterTensors"]


class AdapterTensors:
    """An adapter of a model of a configuration; ``None`` is no adapter, which changes nothing."""

    def __init__(self, adapter: Adapter | None, config: LanguageModelConfig) -> None:
        self._adapter = adapter
        self._blocks = {} if adapter is None else mlx_tensor_blocks(config)

    def adapted(self, name: str, weight: mx.array) -> mx.array:
        """Return the weight that has this name in MLX's layout, with what the adapter changes of it.

        :raises WeightsError: if the file can no longer be read
        """
        return self.changed(self._blocks[name], weight) if name in self._blocks else weight

    def changed(self, block: TensorBlock, weight: mx.array) -> mx.array:
        """Return a block of a tensor of torch's layout, in the model's dtype, with what the adapter changes of it.

        W + scaling (B A) is computed in that dtype, as the original does where it merges an adapter.

        :raises WeightsError: if the file can no longer be read
        """
        change = None if self._adapter is None else self._adapter.info.changes.get(block.name)
        if self._adapter is None or change is None:
            return weight
        arrays, rows = _arrays(self._adapter.path), len(weight)
        first = block.index * rows
        if change.parts:
            whole = mx.concatenate([arrays[part] for part in change.parts])
            whole = whole[0, 0] if weight.ndim == 1 else whole  # norms are [1, 1, dim] in torch's layout
            weight = whole[first : first + rows].astype(weight.dtype)
        pieces: list[mx.array] = []
        done = 0
        for product in sorted(change.products, key=lambda each: each.rows.start):
            start, stop = product.rows.start - first, product.rows.stop - first
            if start < 0 or stop > rows:
                continue
            up = arrays[product.up][product.up_rows.start : product.up_rows.stop]
            down = arrays[product.down][product.down_rows.start : product.down_rows.stop]
            added = self._adapter.info.scaling * _product(up, down, weight.dtype)
            pieces += [weight[done:start], weight[start:stop] + added]
            done = stop
        return mx.concatenate([*pieces, weight[done:]]) if pieces else weight


def _product(up: mx.array, down: mx.array, dtype: mx.Dtype) -> mx.array:
    """Return a product of matrices in a dtype; by NumPy, which is many times as fast as MLX on a CPU."""
    left, right = (to_numpy(matrix.astype(dtype).astype(mx.float32)) for matrix in (up, down))
    return from_numpy(np.matmul(left, right)).astype(dtype)


def _arrays(path: Path) -> dict[str, mx.array]:
    """Return a file's tensors by name; each is read when it is computed with."""
    try:
        loaded: Any = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); download it again") from error
    return loaded
