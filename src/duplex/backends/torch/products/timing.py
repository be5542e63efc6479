"""Timings of one product in each of its layouts.

A step reads each weight once, and all others before it reads it again. So passes go over different matrices of the
shape, one after another, and the layouts take turns: what a cache still holds of one is not what the next reads.
"""

import time
from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor

from duplex.backends.torch.linear import Weight, linear
from duplex.backends.torch.onednn import OneDnnInt8, OneDnnWeight
from duplex.backends.torch.products.choice import Layout, Product, Timings, settled
from duplex.backends.torch.products.layouts import FEWEST, laid_out, layouts_of
from duplex.backends.torch.quantize import Quantized

__all__ = ["MATRICES", "clock", "time_product"]

MATRICES = 24
"""Different matrices of a shape, if they are not large."""
FEWEST_MATRICES = 3
POOL = 32 << 20
"""Bytes of them, about: of large matrices there are fewer."""
LARGEST = 1 << 23
"""Numbers of a matrix; of a larger one, as many outputs are timed as come to this."""
ROUNDS = 4
FEWEST_ROUNDS = 2
HOPELESS = 10.0
"""Times as long as the best: such a layout is not timed on. Products were seen that took a thousand times as long."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


@torch.inference_mode()
def time_product(product: Product, rows: Sequence[int], seconds: float) -> Timings | None:
    """Return the seconds of a product for each number of rows, in at most about so many seconds.

    ``None`` if there was not the time for it, or if passes do not agree, as on a machine that does much else. Layouts
    that are hopeless have the time of a single product.
    """
    end = clock() + seconds
    matrices = _matrices(product)
    weights: dict[Layout, list[Weight]] = {
        layout: _laid_out(matrices, layout) for layout in layouts_of(product.kind) if layout != "blocks4"
    }
    if "blocks" in weights:
        weights["blocks4"] = [_filled_up(weight) for weight in weights["blocks"]]
    given = {count: _inputs(product, count) for count in sorted(rows)}
    slow: dict[Layout, float] = {}
    for x in given.values():
        if clock() > end:
            return None
        slow |= _hopeless(x, {layout: weights[layout] for layout in weights if layout not in slow})
    passes: dict[tuple[int, Layout], list[float]] = {
        (count, layout): [] for count in rows for layout in weights if layout not in slow
    }
    for done in range(ROUNDS):
        if clock() > end:
            if done < FEWEST_ROUNDS:
                return None
            break
        for (count, layout), took in passes.items():
            took.append(_pass(given[count], weights[layout]))
    found = {key: settled(took) for key, took in passes.items()}
    by_rows: dict[int, dict[Layout, float]] = {count: dict(slow) for count in rows}
    for (count, layout), took in found.items():
        if took is None:
            return None
        by_rows[count][layout] = took
    return by_rows


def _hopeless(x: Tensor, weights: Mapping[Layout, Sequence[Weight]]) -> dict[Layout, float]:
    """Return the seconds of the layouts that are not worth a pass: what oneDNN has no fast program for here."""
    least = float("inf")
    slow: dict[Layout, float] = {}
    for layout, of_layout in weights.items():  # rows come first
        if layout == "blocks4" and "blocks" in slow:  # the same, filled up
            slow[layout] = slow["blocks"]
            continue
        linear(x, of_layout[0])  # makes programs and threads
        took = _pass(x, of_layout[1:2])
        least = min(least, took)
        if took > HOPELESS * least:
            slow[layout] = took
    return slow


def _pass(x: Tensor, weights: Sequence[Weight]) -> float:
    """Return the seconds of a product, over all of the matrices."""
    began = clock()
    for weight in weights:
        linear(x, weight)
    return (clock() - began) / len(weights)


def clock() -> float:
    """Return seconds: this thread's own where it computes alone, so that what others take of the core counts not."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _laid_out(matrices: Sequence[Tensor | Quantized], layout: Layout) -> list[Weight]:
    if layout == "columns":  # as good as a copy, as all numbers are the same
        return [each.view(each.shape[::-1]).T for each in matrices if isinstance(each, Tensor)]
    return [laid_out(each, layout) for each in matrices]


def _filled_up(weight: Weight) -> Weight:
    assert isinstance(weight, OneDnnWeight | OneDnnInt8)
    return attrs.evolve(weight, fewest=FEWEST)


def _matrices(product: Product) -> list[Tensor] | list[Quantized]:
    """Return different matrices of a shape; what is in them does not matter."""
    dtype = _DTYPES[product.kind]
    outputs = min(product.outputs, max(LARGEST // product.inputs // 64 * 64, 64))
    size = outputs * product.inputs
    count = max(FEWEST_MATRICES, min(MATRICES, POOL // (size * dtype.itemsize)))
    pool = torch.full((count * size * dtype.itemsize,), 1, dtype=torch.uint8).view(dtype)
    matrices = list(pool.view(count, outputs, product.inputs).unbind())
    if product.kind != "int8":
        return matrices
    scale = torch.full((outputs,), 0.01)
    return [Quantized("int8", matrix, scale) for matrix in matrices]


def _inputs(product: Product, rows: int) -> Tensor:
    dtype = torch.bfloat16 if product.kind == "bfloat16" else torch.float32
    return torch.full((rows, product.inputs), 0.5, dtype=dtype)
