"""Prepacking: weights laid out in memory as a step reads them, with unchanged values.

A step multiplies a few rows by each weight, so that reading the weight is most of what it costs. How it is best laid
out depends on the processor, and is chosen for each shape (:mod:`duplex.backends.torch.products`).
"""

from collections.abc import Callable, Iterator, Mapping

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.torch.allocator import trim
from duplex.backends.torch.attention import Attention
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.cross_attention import CrossAttention
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.linear import Projection, Weight, put
from duplex.backends.torch.products.choice import Layout, Product
from duplex.backends.torch.products.layouts import across, kind_of, laid_out
from duplex.backends.torch.products.selector import ProductSelector
from duplex.backends.torch.quantize import Quantized
from duplex.backends.torch.quantizer import Codebook

__all__ = ["prepack"]


@attrs.frozen
class _Task:
    """A weight ``[outputs, inputs]`` that is to be laid out, or several equal parts of one; ``put`` takes the layout.

    ``kind`` is ``None`` where there is nothing to choose.
    """

    kind: str | None
    shape: tuple[int, int]
    parts: int
    put: Callable[[Layout], None]
    rows: int

    @property
    def product(self) -> Product | None:
        """What is to be chosen for it."""
        outputs, inputs = self.shape
        return None if self.kind is None else Product(self.kind, outputs // self.parts, inputs, self.rows)


@torch.no_grad()
def prepack(
    module: nn.Module,
    selector: ProductSelector | None = None,
    rows: Mapping[nn.Module, int] | int = 1,
) -> None:
    """Lay out all weights below a module, once they are loaded and, if they are to be, quantized.

    The ``selector`` chooses the layouts; without one they are those of the fixed table. ``rows`` says how many rows the
    products in each of its modules have, for one session in one frame.
    """
    tasks = list(_tasks(module, rows))
    wanted = [task.product for task in tasks for _ in range(task.parts) if task.product is not None]
    chosen = (selector or ProductSelector(timed=False)).choose(wanted)
    for task in tasks:
        task.put("rows" if task.product is None else chosen[task.product])
    for part in module.modules():
        if isinstance(part, Codebook) and part.entries.device.type == "cpu":
            part.pack()
        elif isinstance(part, CausalConvTranspose1d) and part.separate:
            part.layer[0].weight.data = across(part.layer[0].weight.data)
    _let_go_of_the_file(module)
    trim()


def _tasks(module: nn.Module, rows: Mapping[nn.Module, int] | int) -> Iterator[_Task]:
    stacked = {part.out_proj for part in module.modules() if isinstance(part, StackedAttention)}
    for part in module.modules():
        count = rows if isinstance(rows, int) else rows.get(part, 1)
        if part in stacked:
            continue
        if isinstance(part, CausalConv1d):
            yield _convolution(part, count)
        elif isinstance(part, CausalConvTranspose1d) and not part.separate:
            yield _transposed(part, count)
        elif isinstance(part, StackedAttention):
            yield _matrix(part, "in_proj_weight", count, part.sets)
            yield _matrix(part.out_proj, "weight", count, part.sets)
        elif isinstance(part, CrossAttention):
            yield _matrix(part, "in_proj_weight", count, 3)
        elif isinstance(part, Attention):
            yield _matrix(part, "in_proj_weight", count)
        elif isinstance(part, Projection):
            yield _matrix(part, "weight", count)


def _matrix(module: nn.Module, name: str, rows: int, parts: int = 1) -> _Task:
    """Return the task of a weight, whose ``parts`` are multiplied one at a time."""
    weight: Weight = getattr(module, name)
    assert isinstance(weight, Tensor | Quantized), "packed once"
    data = weight.data if isinstance(weight, Quantized) else weight
    shape = (data.shape[0], data.shape[1])

    def lay_out(layout: Layout) -> None:
        pieces = [_piece(weight, index, parts) for index in range(parts)] if parts > 1 else [weight]
        put_there = [_laid_out(piece, layout) for piece in pieces]
        if parts == 1:
            put(module, name, put_there[0])
        elif any(new is not old for new, old in zip(put_there, pieces, strict=True)):
            put(module, name, tuple(put_there))

    return _Task(kind_of(weight), shape, parts, lay_out, rows)


def _piece(weight: Tensor | Quantized, index: int, parts: int) -> Tensor | Quantized:
    return weight.part(index, parts) if isinstance(weight, Quantized) else weight.chunk(parts)[index]


def _laid_out(weight: Tensor | Quantized, layout: Layout) -> Weight:
    if isinstance(weight, Quantized) and PackedInt4.possible(weight):
        return PackedInt4.of(weight)
    if isinstance(weight, Tensor) and weight.device.type != "cpu":
        return weight.contiguous()
    return laid_out(weight, layout)


def _convolution(convolution: CausalConv1d, rows: int) -> _Task:
    layer = convolution.layer[0]
    weight = layer.weight.data
    convolution.narrows = convolution.narrows and not weight.is_cuda
    # Taps before channels, as the windows have them, or first of all, so that the matrix is what lies there.
    order, back = ((2, 0, 1), (1, 2, 0)) if convolution.narrows else ((0, 2, 1), (0, 2, 1))
    layer.weight.data = weight.permute(order).contiguous().permute(back)
    matrix = convolution.matrix
    assert isinstance(matrix, Tensor), "packed once"

    def lay_out(layout: Layout) -> None:
        if layout != "rows":
            convolution.packed = laid_out(matrix, layout)
            del layer.weight

    return _Task(kind_of(matrix), (matrix.shape[0], matrix.shape[1]), 1, lay_out, rows)


def _transposed(convolution: CausalConvTranspose1d, rows: int) -> _Task:
    layer = convolution.layer[0]
    matrix = convolution.matrix
    assert isinstance(matrix, Tensor), "packed once"

    def lay_out(layout: Layout) -> None:
        put(convolution, "packed", _laid_out(matrix, layout))
        del layer.weight
        if layer.bias is not None:
            put(convolution, "shifts", layer.bias.repeat(convolution.stride))
            del layer.bias

    return _Task(kind_of(matrix), (matrix.shape[0], matrix.shape[1]), 1, lay_out, rows)


def _let_go_of_the_file(module: nn.Module) -> None:
    """Copy what still lies in the file, so that no page of it is held: memory that is not PyTorch's own."""
    for part in module.modules():
        for name, weight in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if weight.device.type == "cpu" and not weight.untyped_storage().resizable():
                copied = weight.detach().clone()
                is_weight = isinstance(weight, nn.Parameter)
                setattr(part, name, nn.Parameter(copied, requires_grad=False) if is_weight else copied)
