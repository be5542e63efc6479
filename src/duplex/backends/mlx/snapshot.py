"""Export and restoration of a slot: its arrays by name, caches without empty places, and the token log."""

from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex.backends.mlx.arrays import evaluate, from_numpy, to_numpy, whole_number
from duplex.backends.mlx.state import SlotState, exclusive
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
from duplex.frame_model import ModelSpec, SessionState

__all__ = ["export", "restore"]


class _Tensors(Mapping[str, NDArray[np.generic]]):
    """The arrays of one slot, copied one at a time as they are read."""

    def __init__(self, state: SlotState, known: dict[str, NDArray[np.generic]], device: mx.Device) -> None:
        self._state = state
        self._known = known
        self._device = device

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name in self._known:
            return self._known[name]
        with exclusive(self._device):
            array = _to_numpy(self._state[name])
        if CACHE in name:
            return array[..., _places(whole_number(self._state[position_of(name)]), array.shape[-2]), :]
        return array

    def __iter__(self) -> Iterator[str]:
        yield from self._state
        yield from self._known

    def __len__(self) -> int:
        return len(self._state) + len(self._known)


def export(slot: Slot, arrays: SlotState, spec: ModelSpec, origin: Origin, device: mx.Device) -> SessionState:
    """Return the state of a slot, whose arrays are ``arrays``; they are copied when they are read."""
    known: dict[str, NDArray[np.generic]] = {
        LOG: slot.log.columns,
        AHEAD: slot.ahead[1],
        **condition_tensors(slot.conditions),
    }
    kept = {name: array for name, array in arrays.items() if not name.startswith(OPTIONS)}
    return SessionState(metadata=describe(slot, spec, origin), tensors=_Tensors(kept, known, device))


def restore(arrays: SlotState, state: SessionState, *, exact: bool) -> Iterator[None]:
    """Put a checked state into a slot that has been opened, or, unless ``exact``, prefilled: then of that only a part.

    That part, the codec's and what belongs to a text, is the same on any backend. It is done in pieces, between which
    the slot must be left alone.

    :raises ValueError: if an array has another type or shape, or NaN or infinity
    """
    put = 0
    for name, array in arrays.items():
        if (exact and not name.startswith(OPTIONS)) or name.startswith(SCRIPT) or not name.startswith(LANGUAGE_MODEL):
            arrays[name] = _taken(array, name, state.tensors)
            put += array.nbytes
            if put >= RESTORE_PIECE:
                put = 0
                evaluate(arrays)
                yield
    evaluate(arrays)


def _taken(array: mx.array, name: str, saved: Mapping[str, NDArray[np.generic]]) -> mx.array:
    """Return one saved array in the form of the slot's; a cache's positions go back to the places they came from."""
    value = np.asarray(saved[name])
    if value.dtype != (known := _numpy_dtype(array)):
        raise ValueError(f"'{name}' is {value.dtype}, not {known}")
    wanted = list(array.shape)
    places = None
    if CACHE in name:
        places = _places(int(saved[position_of(name)]), wanted[-2])
        wanted[-2] = len(places)
    if list(value.shape) != wanted:
        raise ValueError(f"'{name}' is {list(value.shape)}, not {wanted}")
    if places is not None:
        ring = np.zeros(array.shape, value.dtype)
        ring[..., places, :] = value
        value = ring
    loaded = from_numpy(value)
    restored = loaded.view(array.dtype) if array.dtype == mx.bfloat16 else loaded.astype(array.dtype)
    floating = mx.issubdtype(array.dtype, mx.floating)
    check_finite(name, finite=not floating or bool(mx.all(mx.isfinite(restored)).item()))
    return restored


def _numpy_dtype(array: mx.array) -> np.dtype[np.generic]:
    """Return the type in which :func:`_to_numpy` copies an array."""
    return _to_numpy(mx.zeros((0,), array.dtype)).dtype


def _places(position: int, capacity: int) -> NDArray[np.int64]:
    """Return where in a ring the positions lie that it still holds, oldest first."""
    return np.arange(max(0, position - capacity), position) % capacity


def _to_numpy(array: mx.array) -> NDArray[np.generic]:
    """Copy an array to numpy: whole numbers as int64, as other backends have them; bfloat16 as its bits."""
    if array.dtype == mx.bfloat16:
        return to_numpy(array.view(mx.int16))
    return to_numpy(array if array.dtype in (mx.float32, mx.bool_) else array.astype(mx.int64))
