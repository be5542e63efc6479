"""A slot's state out and in: every state tensor by name, caches without their empty places, and the token log."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.backends.shared import snapshots
from duplex.backends.shared.snapshots import AHEAD, CACHE, LANGUAGE_MODEL, LOG, position_of
from duplex.errors import StateError
from duplex.frame_model import SessionState

if TYPE_CHECKING:
    from duplex.backends.torch.model import TorchFrameModel

__all__ = ["export", "restore"]

_BACKEND = "torch"


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


def export(model: "TorchFrameModel", slot: int) -> SessionState:
    """Return the state of a slot; its tensors are copied when they are read."""
    held = model.slots[slot]
    metadata = snapshots.describe(
        held, model.spec, backend=_BACKEND, dtype=model.numbers, fingerprint=model.fingerprint
    )
    rows = model.state.rows(slot, slot + 1).tensors
    return SessionState(metadata=metadata, tensors=_Tensors(rows, {LOG: held.log.columns, AHEAD: held.ahead[1]}))


def restore(model: "TorchFrameModel", slot: int, state: SessionState) -> None:
    """Put a state into a slot.

    :raises StateError: if it belongs to another checkpoint or is damaged
    """
    snapshots.check(state.metadata, model.fingerprint)
    try:
        _restore(model, slot, state)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise StateError(f"the state is damaged ({error}); export it anew") from error


def _restore(model: "TorchFrameModel", slot: int, state: SessionState) -> None:
    metadata = state.metadata
    exact = metadata["backend"] == _BACKEND and metadata["dtype"] == model.numbers
    rows = model.state.rows(slot, slot + 1).tensors
    model.open(slot, snapshots.options_of(metadata))
    if not exact:
        model.prefill(slot, snapshots.known_tokens(state, model.spec))
    for name, tensor in rows.items():
        if exact or not name.startswith(LANGUAGE_MODEL):
            _put(tensor[0], name, state.tensors)
    model.slots[slot].ahead = int(metadata["ahead"]), state.tensors[AHEAD].astype(np.int64)
    if exact:
        for column in state.tensors[LOG]:
            model.slots[slot].log.append(column.astype(np.int64))
        model.slots[slot].frames = int(metadata["frames"])


def _put(tensor: Tensor, name: str, saved: Mapping[str, NDArray[np.generic]]) -> None:
    """Put one saved tensor where it belongs in a slot's; a cache's positions go back to the places they came from."""
    value = _from_numpy(saved[name], tensor.dtype).to(tensor.device)
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


def _places(position: int, capacity: int, device: torch.device) -> Tensor:
    """Return where in a ring the positions lie that it still holds, oldest first."""
    return torch.arange(max(0, position - capacity), position, device=device) % capacity


def _to_numpy(tensor: Tensor) -> NDArray[np.generic]:
    """Copy a tensor to numpy; bfloat16, which numpy lacks, as its bits."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy().copy()


def _from_numpy(array: NDArray[np.generic], dtype: torch.dtype) -> Tensor:
    tensor = torch.as_tensor(np.array(array, order="C"))
    return tensor.view(torch.bfloat16) if dtype == torch.bfloat16 else tensor
