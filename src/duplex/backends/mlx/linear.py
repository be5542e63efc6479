"""Weight matrices, whole or quantized, and the functions between them."""

import attrs
import mlx.core as mx

from duplex.backends.mlx.arrays import evaluate
from duplex.backends.mlx.module import Module

__all__ = ["Linear", "Matrix", "Packing", "elu", "gelu", "silu"]


@attrs.frozen
class Packing:
    """How quantized weights lie in memory: so many bits a number, and a scale and a bias for each group of a row."""

    bits: int
    group: int


class Matrix(Module):
    """A weight ``[rows, columns]``; quantized, ``weight`` holds packed words, beside ``scales`` and ``biases``."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns
        self.packing: Packing | None = None
        self.weight: mx.array = mx.zeros((rows, columns))

    def quantize(self, packing: Packing) -> None:
        """Make room for quantized weights, before any are loaded."""
        self.packing = packing
        self.weight = mx.zeros((self.rows, self.columns * packing.bits // 32), mx.uint32)
        self.scales: mx.array = mx.zeros((self.rows, self.columns // packing.group))
        self.biases: mx.array = mx.zeros((self.rows, self.columns // packing.group))


class Linear(Matrix):
    """A product without bias, ``[..., inputs]`` to ``[..., outputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(outputs, inputs)
        self._across: mx.array | None = None

    def part(self, start: int, stop: int) -> "Linear":
        """Return a copy of the outputs from ``start`` to ``stop``, as a product of its own."""
        made = Linear(self.columns, stop - start)
        made.packing = self.packing
        made.weight = mx.contiguous(self.weight[start:stop])
        if self.packing is not None:
            made.scales, made.biases = (mx.contiguous(part[start:stop]) for part in (self.scales, self.biases))
        return made

    def lay_across(self) -> None:
        """Lay the weight out by columns, which a CPU's float32 product reads several times as fast."""
        if self.packing is None:
            self._across = mx.contiguous(self.weight.T)
            self.weight: mx.array = self._across.T
            evaluate(self._across, self.weight)

    def __call__(self, x: mx.array) -> mx.array:
        """Multiply."""
        if self.packing is None:
            return x @ (self.weight.T if self._across is None else self._across)
        made = mx.quantized_matmul(
            x,
            self.weight,
            self.scales,
            self.biases,
            transpose=True,
            group_size=self.packing.group,
            bits=self.packing.bits,
        )
        return made.astype(x.dtype)  # the scales may be of a finer type


def elu(x: mx.array) -> mx.array:
    """Return x above zero, exp(x) - 1 below."""
    return mx.maximum(x, 0) + mx.expm1(mx.minimum(x, 0))


def gelu(x: mx.array) -> mx.array:
    """Return x times the normal distribution's integral up to x, exactly rather than by tanh."""
    return x * (1 + mx.erf(x * 2**-0.5)) / 2


def silu(x: mx.array) -> mx.array:
    """Return x times its logistic function."""
    return x * mx.sigmoid(x)
