"""Export and restoration of a slot: its state tensors by name, caches without empty places, and the token log."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.backends.shared.conditions import condition_tensors
from duplex.backends.shared.slots import Slot
from duplex.backends.shared.snapshots import (
    AHEAD,
    CACHE,
    LANGUAGE_MODEL,
    LOG,
    OPTIONS,
    RESTORE_PIECE,
    SCRIPT,
    Origin,
    describe,
    position_of,
)
from duplex.backends.shared.state_checks import check_finite
from duplex.backends.torch.state import SlotState
from duplex.frame_model import ModelSpec, SessionState

__all__ = ["export", "restore"]


class _Tensors(Mapping[str, NDArray[np.generic]]):
    """The tensors of one slot, copied from the device one at a time as they are read."""

    def __init__(self, rows: dict[str, Tensor], known: dict[str, NDArray[np.generic]]) -> None:
        self._rows = rows
        self._known = known

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name in self._known:
            return self._known[name]
        tensor = self._rows[name][0]
        if CACHE in name:
            tensor = tensor[..., _places(int(self._rows[position_of(name)]), tensor.shape[-2], tensor.device), :]
        return _to_numpy(tensor)

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        yield from self._known

    def __len__(self) -> int:
        return len(self._rows) + len(self._known)


def export(slot: Slot, rows: SlotState, spec: ModelSpec, origin: Origin) -> SessionState:
    """Return the state of a slot, whose one row is ``rows``; tensors are copied when they are read."""
    known: dict[str, NDArray[np.generic]] = {
        LOG: slot.log.columns,
        AHEAD: slot.ahead[1],
        **condition_tensors(slot.conditions),
    }
    kept = {name: tensor for name, tensor in rows.tensors.items() if not name.startswith(OPTIONS)}
    return SessionState(metadata=describe(slot, spec, origin), tensors=_Tensors(kept, known))


def restore(rows: SlotState, state: SessionState, *, exact: bool) -> Iterator[None]:
    """Put a checked state into a slot that has been opened, or, unless ``exact``, prefilled: then of that only a part.

    That part, the codec's and what belongs to a text, is the same on any backend. It is done in pieces, between which
    the slot must be left alone.

    :raises ValueError: if a tensor has another type or shape, or NaN or infinity
    """
    put = 0
    for name, tensor in rows.tensors.items():
        if (exact and not name.startswith(OPTIONS)) or name.startswith(SCRIPT) or not name.startswith(LANGUAGE_MODEL):
            put += _put(tensor[0], name, state.tensors)
            if put >= RESTORE_PIECE:
                put = 0
                yield


def _put(tensor: Tensor, name: str, saved: Mapping[str, NDArray[np.generic]]) -> int:
    """Put one saved tensor where it belongs in a slot's; a cache's positions go back to the places they came from.

    Returns its bytes, which are few of a cache that is nearly empty: after a prompt, for one.
    """
    value = _from_numpy(name, saved[name], tensor.dtype).to(tensor.device)
    value = _folded(value, tensor) if CACHE in name else value
    check_finite(name, finite=not value.is_floating_point() or bool(value.isfinite().all()))
    wanted = list(tensor.shape)
    if CACHE in name:
        wanted[-2] = min(wanted[-2], int(saved[position_of(name)]))
    if list(value.shape) != wanted:
        raise ValueError(f"'{name}' is {list(value.shape)}, not {wanted}")
    if CACHE in name:
        position, count, capacity = int(saved[position_of(name)]), value.shape[-2], tensor.shape[-2]
        places = torch.arange(position - count, position, device=tensor.device) % capacity
        tensor[..., places, :] = value
    else:
        tensor.copy_(value)
    return value.nbytes


def _folded(value: Tensor, tensor: Tensor) -> Tensor:
    """Return a saved cache with as many heads as there are now: older states have shared ones as often as used."""
    if value.ndim != tensor.ndim or value.shape[-3] <= tensor.shape[-3] or value.shape[-3] % tensor.shape[-3]:
        return value
    repeat = value.shape[-3] // tensor.shape[-3]
    folded = value[..., ::repeat, :, :]
    return folded if torch.equal(folded.repeat_interleave(repeat, dim=-3), value) else value


def _places(position: int, capacity: int, device: torch.device) -> Tensor:
    """Return where in a ring the positions lie that it still holds, oldest first."""
    return torch.arange(max(0, position - capacity), position, device=device) % capacity


def _to_numpy(tensor: Tensor) -> NDArray[np.generic]:
    """Copy a tensor to numpy; bfloat16, which numpy lacks, as its bits."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy().copy()


def _from_numpy(name: str, array: NDArray[np.generic], dtype: torch.dtype) -> Tensor:
    """Undo :func:`_to_numpy`.

    :raises ValueError: if the array is of another type than it returns
    """
    wanted = _to_numpy(torch.empty(0, dtype=dtype)).dtype
    if array.dtype != wanted:
        raise ValueError(f"'{name}' is {array.dtype}, not {wanted}")
    tensor = torch.as_tensor(np.array(array, order="C"))
    return tensor.view(torch.bfloat16) if dtype == torch.bfloat16 else tensor
