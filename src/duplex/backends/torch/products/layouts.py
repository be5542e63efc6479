"""The layouts that a weight of a kind can have, and the weight in each of them."""

import torch
from torch import Tensor

from duplex.backends.torch.linear import Weight
from duplex.backends.torch.onednn import OneDnnInt8, OneDnnWeight
from duplex.backends.torch.products.choice import Layout
from duplex.backends.torch.quantize import Quantized

__all__ = ["FEWEST", "MIDDLING", "SMALLEST", "across", "fixed", "kind_of", "laid_out", "layouts_of"]

SMALLEST = 1 << 18
"""Numbers of a matrix below which a product is too short for oneDNN."""
MIDDLING = 1 << 16
"""Numbers below which it does not matter how a matrix lies."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FEWEST = 4
"""Rows that ``blocks4`` fills up to."""


def kind_of(weight: Weight) -> str | None:
    """Return the kind of number that a weight on a CPU is held in, if there is anything to choose about it."""
    if isinstance(weight, Quantized):
        return "int8" if weight.kind == "int8" and weight.data.device.type == "cpu" else None
    if not isinstance(weight, Tensor) or weight.device.type != "cpu":
        return None
    return next((kind for kind, dtype in DTYPES.items() if dtype == weight.dtype), None)


def layouts_of(kind: str) -> tuple[Layout, ...]:
    """Return what can be chosen for a kind of number here."""
    if kind == "int8":
        return ("rows", "blocks", "blocks4") if OneDnnInt8.available() else ("rows",)
    return ("rows", "columns", "blocks", "blocks4") if OneDnnWeight.available(DTYPES[kind]) else ("rows", "columns")


def fixed(kind: str, outputs: int, inputs: int) -> Layout:
    """Return the layout that is taken without a timing: the same everywhere."""
    size = outputs * inputs
    if kind == "int8":
        return "rows"
    if size >= SMALLEST and "blocks" in layouts_of(kind):
        return "blocks4" if kind == "float32" else "blocks"
    return "columns" if size >= MIDDLING and outputs > inputs else "rows"


def laid_out(weight: Tensor | Quantized, layout: Layout) -> Weight:
    """Return a weight ``[outputs, inputs]``, with the numbers it has, in a layout."""
    fewest = FEWEST if layout == "blocks4" else 1
    if isinstance(weight, Quantized):
        return weight if layout == "rows" else OneDnnInt8.of(weight, fewest)
    if layout == "rows":
        return weight
    return across(weight) if layout == "columns" else OneDnnWeight.of(weight, fewest)


def across(weight: Tensor) -> Tensor:
    """Return a weight that lies in memory as if its last two dimensions were exchanged."""
    return weight.transpose(-1, -2).contiguous().transpose(-1, -2)
