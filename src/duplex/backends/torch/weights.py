"""Weights from published files into modules: memory-mapped, checked, in the wanted dtype.

Every tensor is mapped from its file and converted on its own, so no second copy of the model is ever in memory; where
dtype and device are the file's own, the mapped pages themselves are used. Names and what is split in which layout are
the business of :mod:`duplex.checkpoints.weight_names`; 8-bit files hold each linear as int8 ``weight`` with a float32
``weight_scb``: value = weight x scb / 127, row by row.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from duplex.backends.torch.adapter import AdapterTensors
from duplex.backends.torch.linear import put
from duplex.backends.torch.quantize import Kind, Quantized, quantizable
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.gguf_file import ENDING, GgufFile
from duplex.checkpoints.stored_weights import read_header, shards
from duplex.checkpoints.transformers_names import Slice
from duplex.checkpoints.weight_names import SCALES, check_names, detect_layout, stored_parts
from duplex.errors import WeightsError

__all__ = ["load_weights"]

CONDITIONERS = "condition_provider."
_INT8_RANGE = 127


def _as_published(_: str) -> None:
    """Take the rows of a tensor as they are."""


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    published: Callable[[str], str] = str,
    unused: re.Pattern[str] | None = None,
    rows: Callable[[str], NDArray[np.int64] | None] = _as_published,
    quantize: Kind | None = None,
    adapter: Adapter | None = None,
    codec: bool = False,
) -> None:
    """Fill ``module``, built on the meta device, from a weights file.

    ``published`` turns a name of ours into the file's; names that match ``unused`` may be in the file besides. ``rows``
    says which rows of the file's tensor are ours, if not all in order. What conditions a model stays float32. With
    ``quantize`` each large weight is rounded as soon as it is read, and the ``adapter`` is added to it. ``codec`` says
    which half of a file is read that holds both.

    :raises WeightsError: if the file is damaged, or a tensor is missing, unknown, or of another shape or kind
    """
    try:
        with ExitStack() as files, AdapterTensors(adapter) as changes:
            stored = _Stored(path, files, codec=codec)
            wanted = {published(name): (name, tensor) for name, tensor in module.state_dict().items()}
            stored.check_names(set(wanted), unused)
            loaded: dict[str, Tensor] = {}
            for name, (ours, tensor) in wanted.items():
                held = torch.float32 if name.startswith(CONDITIONERS) else dtype
                order = rows(name)
                shape = tensor.shape if order is None else torch.Size([int(order.max()) + 1, *tensor.shape[1:]])
                value = stored.read(name, shape).to(device=device, dtype=held)
                value = changes.adapted(name, value)
                value = value if order is None else value[torch.as_tensor(order, device=device)]
                if quantize is not None and quantizable(ours, tensor.shape):
                    put(module, ours, Quantized.of(value, quantize))
                else:  # a tensor of the file's own would keep all of it in memory, with what has been rounded
                    loaded[ours] = value if quantize is None else value.clone()
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); download it again") from error
    module.load_state_dict(loaded, assign=True)
    module.requires_grad_(requires_grad=False).eval()


class _Gguf(GgufFile):
    """A GGUF file with the methods of an open safetensors file."""

    def get_tensor(self, name: str) -> Tensor:
        """Return a tensor as the float32 numbers that it stands for."""
        return torch.as_tensor(self.read(name))


class _Stored:
    """The tensors of a weights file under their canonical names: parts joined, 8-bit ones dequantized.

    :raises WeightsError: if the file is damaged, or has a tensor twice, in two spellings
    """

    def __init__(self, path: Path, files: ExitStack, *, codec: bool) -> None:
        self._path = path
        header = read_header(path)
        self._files: dict[str, Any] = {}
        for shard in shards(path):
            if shard.name.endswith(ENDING):
                file = _Gguf(shard)
                self._files |= dict.fromkeys(file.keys(), file)
                continue
            opened: Any = safe_open(shard, framework="pt")
            file = files.enter_context(opened)
            self._files |= dict.fromkeys(file.keys(), file)
        self._parts = stored_parts(header, str(path), codec=codec)

    def check_names(self, wanted: set[str], unused: re.Pattern[str] | None) -> None:
        """Check that the file has what is wanted, and nothing else but what is ``unused``.

        :raises WeightsError: naming a tensor that is missing or unknown, or if the file is of MLX's layout
        """
        if detect_layout(self._files) == "mlx":
            raise WeightsError(
                f"{self._path} is in MLX's layout, which PyTorch does not run; use backend='mlx', or write the other "
                f"layout with `duplex convert SRC DST --layout torch`"
            )
        check_names(self._path, self._parts.keys(), wanted, unused)

    def read(self, name: str, shape: torch.Size) -> Tensor:
        """Return a tensor, its parts joined.

        :raises WeightsError: if it is not of this shape, or of a type that weights have not
        """
        parts = [self._dequantized(part) for part in self._parts[name]]
        if name.endswith(".alpha") and parts[0].ndim == 1:  # a norm that is not published as [1, 1, dim]
            parts = [part[None, None] for part in parts]
        # Parts are joined only where they fit: a failure of torch.cat could also be a want of memory.
        fits = all(part.shape[1:] == shape[1:] for part in parts)
        tensor = torch.cat(parts) if len(parts) > 1 and fits else parts[0]
        if not fits or tensor.shape != shape:
            found = " and ".join(str(list(part.shape)) for part in ([tensor] if fits else parts))
            raise WeightsError(f"{self._path}: tensor '{name}' is {found} but the configuration asks for {list(shape)}")
        return tensor

    def _dequantized(self, part: Slice) -> Tensor:
        name = part.name
        file = self._files[name]
        tensor: Tensor = file.get_tensor(name) if part.codebook is None else file.get_slice(name)[part.codebook]
        scaled = name + SCALES in self._files
        if tensor.is_floating_point() and not scaled:
            return tensor
        if tensor.dtype != torch.int8:
            what = f"{tensor.dtype} with scales" if scaled else f"{tensor.dtype}"
            raise WeightsError(f"{self._path}: tensor '{name}' is {what}; floating or 8-bit weights are wanted")
        if not scaled:
            raise WeightsError(f"{self._path}: 8-bit tensor '{name}' lacks '{name + SCALES}'; download the file again")
        scales: Tensor = self._files[name + SCALES].get_tensor(name + SCALES)
        if tensor.ndim != 2 or scales.shape != tensor.shape[:1] or not scales.is_floating_point():  # noqa: PLR2004
            raise WeightsError(
                f"{self._path}: '{name + SCALES}' is {scales.dtype} {list(scales.shape)}, but one floating number for "
                f"each row of {list(tensor.shape)} is wanted; download the file again"
            )
        return tensor.float() * (scales.float() / _INT8_RANGE)[:, None]
