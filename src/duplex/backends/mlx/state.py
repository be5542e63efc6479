"""Streaming state as data: named arrays of each slot, replaced by a step.

Modules of this backend hold weights only. What a stream must remember from one call to the next is declared by the
module that needs it, made once for a slot, and handed to a module inside a :class:`Call`. So one module serves any
number of streams, and a slot can be reset, saved and restored by name.

An MLX array is a value: a new one takes over the memory of the old one, written in place, if nobody else holds it. The
slot axis is therefore a list: slots that are stepped together are handed in together, the rest is not even looked at,
and the past of attention, which is large, is never gathered or copied.
"""

import contextlib
import threading
from collections.abc import Generator, Sequence

import attrs
import mlx.core as mx

from duplex.backends.mlx.arrays import named_modules
from duplex.backends.mlx.module import Module

__all__ = ["Call", "SlotState", "StateSpec", "Streaming", "allocate", "bind", "exclusive"]

SlotState = dict[str, mx.array]
"""The state of one stream: arrays without a slot axis, by name."""

_LOCK = threading.RLock()


@contextlib.contextmanager
def exclusive(device: mx.Device) -> Generator[None]:
    """Compute on a device, alone: MLX does not promise that two threads may evaluate at a time."""
    with _LOCK, mx.stream(device):
        yield


@attrs.frozen
class StateSpec:
    """One state array of a module. It starts at zero."""

    shape: tuple[int, ...]
    dtype: mx.Dtype | None = None
    """``None`` takes the dtype of the module's weights."""


class Streaming(Module):
    """A module that remembers something between calls."""

    key: str = ""
    """Prefix of the names of this module's arrays in a state; given by :func:`bind`."""

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the arrays that this module needs for calls of at most so many frames, by their last name."""
        raise AssertionError(f"{type(self).__name__} declares nothing for {frames_per_call} frames")


def bind(root: Module, prefix: str, frames_per_call: int = 1) -> dict[str, StateSpec]:
    """Name the state of every streaming module below ``root`` and return the declarations by full name."""
    declared: dict[str, StateSpec] = {}
    for name, module in named_modules(root):
        if isinstance(module, Streaming):
            module.key = f"{prefix}.{name}" if name else prefix
            declared |= {f"{module.key}.{last}": array for last, array in module.state_spec(frames_per_call).items()}
    return declared


def allocate(declared: dict[str, StateSpec], dtype: mx.Dtype) -> SlotState:
    """Return the state of one stream at its beginning.

    Zeroes also what no mask lets through: a value that is not a number would pass a mask.
    """
    return {name: mx.zeros(array.shape, array.dtype or dtype) for name, array in declared.items()}


@attrs.frozen(eq=False)
class Call:
    """One forward call over a batch of streams, whose states ``rows`` are replaced, array by array, as it goes on.

    ``filled`` is the largest number of frames of any row, this call's included: attention reads no further.
    """

    rows: Sequence[SlotState]
    filled: int | None = None

    def read(self, name: str) -> mx.array:
        """Return a state array of every row, ``[batch, ...]``."""
        if len(self.rows) == 1:
            return self.rows[0][name][None]
        return mx.stack([row[name] for row in self.rows])

    def write(self, name: str, value: mx.array) -> None:
        """Remember ``value`` ``[batch, ...]``."""
        for index, row in enumerate(self.rows):
            row[name] = value[index]

    def advance(self, name: str, amount: int) -> None:
        """Add ``amount`` to a counter of every row."""
        for row in self.rows:
            row[name] = row[name] + amount
