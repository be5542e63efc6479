"""Streaming state as data: named tensors with a slot axis, updated in place.

Modules of this backend hold weights only. What a stream must remember from one call to the next (the last samples of a
convolution, the keys and values of attention) is declared by the module that needs it, allocated once for all slots,
and handed to ``forward`` inside a :class:`Call`. So one module serves any number of streams, a slot can be reset, saved
and restored by name, and a captured graph finds its tensors where it left them.
"""

from collections.abc import Sequence
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.shared.slots import Slot, TokenLog

__all__ = ["Call", "Rows", "Slot", "SlotState", "StateSpec", "Streaming", "TokenLog", "bind"]


@attrs.frozen
class StateSpec:
    """One state tensor of a module, without its slot axis. It starts at zero."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None
    """``None`` takes the dtype of the module's weights."""
    spared: bool = False
    """Whether a slot that only fills up a batch does without it: it is large."""


class Streaming(nn.Module):
    """A module that remembers something between calls."""

    key = ""
    """Prefix of the names of this module's tensors in a state; given by :func:`bind`."""

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the tensors that this module needs for calls of at most so many frames, by their last name."""
        raise AssertionError(f"{type(self).__name__} declares nothing for {frames_per_call} frames")


def bind(root: nn.Module, prefix: str, frames_per_call: int = 1) -> dict[str, StateSpec]:
    """Name the state of every streaming module below ``root`` and return the declarations by full name."""
    declared: dict[str, StateSpec] = {}
    for name, module in cast(Any, root).named_modules():  # torch leaves its type open
        if isinstance(module, Streaming):
            module.key = f"{prefix}.{name}" if name else prefix
            declared |= {f"{module.key}.{last}": tensor for last, tensor in module.state_spec(frames_per_call).items()}
    return declared


class SlotState:
    """All state tensors of a batch of streams, ``[slots, ...]`` each."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    @classmethod
    def allocate(
        cls, declared: dict[str, StateSpec], slots: int, *, dtype: torch.dtype, device: torch.device, spare: int = 0
    ) -> "SlotState":
        """Return zeroed tensors for ``slots`` streams, and behind them for ``spare`` ones that only fill up batches."""

        def zeros(tensor: StateSpec) -> Tensor:
            count = slots if tensor.spared else slots + spare
            return torch.zeros((count, *tensor.shape), dtype=tensor.dtype or dtype, device=device)

        return cls({name: zeros(tensor) for name, tensor in declared.items()})

    def rows(self, start: int, stop: int) -> "SlotState":
        """Return a view of slots ``start`` to ``stop``: writing to it writes here."""
        return SlotState({name: tensor[start:stop] for name, tensor in self.tensors.items()})

    def reset(self) -> None:
        """Return every stream to its beginning.

        Zeroes also what no mask lets through: a value that is not a number, left behind in a cache, would pass a mask.
        """
        for tensor in self.tensors.values():
            tensor.zero_()


@attrs.frozen(eq=False)
class Rows:
    """Which slots of a state a call is about, in rising order: the rest neither cost anything nor change.

    What is small is gathered and put back; what is large (the past of attention) is read where it lies, run by run.
    """

    indices: Tensor
    """int64 ``[batch]``"""
    runs: Tensor | None = None
    """The same slots as ranges without a gap, int64 ``[runs, 2]`` on the host, where it knows them."""
    whole: slice | None = None
    """All of them as one range, where they are known to be one."""

    @classmethod
    def of(cls, slots: Sequence[int], device: torch.device) -> "Rows":
        """Return the rows of these slots, in rising order."""
        ends = [slot + 1 for slot in slots if slot + 1 not in slots]
        starts = [slot for slot in slots if slot - 1 not in slots]
        runs = torch.tensor([starts, ends]).T
        return cls(torch.tensor(slots, device=device), runs, slice(starts[0], ends[0]) if len(starts) == 1 else None)

    def take(self, held: Tensor) -> Tensor:
        """Return these rows of ``[slots, ...]``, as they lie where they lie side by side."""
        return held.index_select(0, self.indices) if self.whole is None else held[self.whole]

    def put(self, held: Tensor, value: Tensor) -> None:
        """Write ``value`` ``[batch, ...]`` to these rows of ``held``."""
        if self.whole is None:
            held.index_copy_(0, self.indices, value.to(held.dtype))
        else:
            held[self.whole].copy_(value)


@attrs.frozen(eq=False)
class Call:
    """One forward call over a batch of streams.

    Without a ``state`` every stream starts from silence and nothing is remembered (training, whole recordings).
    ``rows`` says which of its slots the batch is; ``None`` means all. ``filled`` is the largest number of frames of any
    row, this call's included, where the host knows it: attention reads no further.
    """

    state: SlotState | None = None
    rows: Rows | None = None
    filled: int | Tensor | None = None

    def read(self, name: str) -> Tensor | None:
        """Return a state tensor ``[batch, ...]``, or ``None`` if every stream starts from silence."""
        if self.state is None:
            return None
        held = self.state.tensors[name]
        return held if self.rows is None else self.rows.take(held)

    def slots(self, batch: int, device: torch.device) -> Tensor:
        """Return the slots of a state that the batch is, int64 ``[batch]``."""
        return torch.arange(batch, device=device) if self.rows is None else self.rows.indices

    def write(self, name: str, value: Tensor) -> None:
        """Remember ``value`` ``[batch, ...]``."""
        if self.state is None:
            return
        held = self.state.tensors[name]
        if self.rows is None:
            held.copy_(value)
        else:
            self.rows.put(held, value)

    def advance(self, name: str, amount: int) -> None:
        """Add ``amount`` to a counter ``[batch]``."""
        count = self.read(name)
        if count is not None:
            self.write(name, count + amount)
