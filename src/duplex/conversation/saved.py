"""A conversation as bytes, in safetensors: the slot's state, the session's, and the number of its next event."""

import re
from collections.abc import Mapping
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import StateError
from duplex.frame_model import ModelSpec, SessionState
from duplex.parsing import parse_integer, parse_json, shown

__all__ = ["SavedConversation", "checked_numbers"]

LARGEST_SEED = 2**64 - 1
LARGEST_SEQUENCE = 2**53
"""Integers that every JSON parser keeps exactly."""
LARGEST_NUMBER = 2.0**40
"""Seconds, frames or windows: thousands of years, and still exact to a thousandth."""
_SESSION = "session."
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@attrs.frozen(eq=False)
class SavedConversation:
    """The state of a conversation, to resume it here, later or elsewhere."""

    session_id: str
    seed: int
    sequence: int
    session: Mapping[str, NDArray[np.generic]]
    slot: SessionState

    def resume_at(self, spec: ModelSpec) -> float:
        """Return the position in the user's audio to go on from, in seconds."""
        return spec.seconds(int(self.slot.tensors["seat.index"][0]))

    def to_bytes(self) -> bytes:
        """Return the whole as the bytes of a safetensors file."""
        from safetensors.numpy import save  # noqa: PLC0415 -- `import duplex` does not pay for it

        tensors = {**self.slot.tensors, **{_SESSION + name: tensor for name, tensor in self.session.items()}}
        own = {"session_id": self.session_id, "seed": str(self.seed), "sequence": str(self.sequence)}
        return save(
            {name: np.array(tensor, order="C") for name, tensor in tensors.items()}, {**self.slot.metadata, **own}
        )

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Read what :meth:`to_bytes` wrote.

        :raises StateError: if the bytes are not a whole saved conversation
        """
        from safetensors import SafetensorError  # noqa: PLC0415
        from safetensors.numpy import load  # noqa: PLC0415

        if not isinstance(data, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may be untyped
            raise StateError(f"a saved conversation is bytes, not {type(data).__name__}; give what export() returned")
        data = bytes(data)
        try:
            length = int.from_bytes(data[:8], "little")
            tensors = load(data)
            metadata = _metadata(data[8 : 8 + length])
            _check_time_line(tensors["seat.index"])
            return cls(
                _checked_id(metadata["session_id"]),
                parse_integer(metadata["seed"], 0, LARGEST_SEED),
                parse_integer(metadata["sequence"], 0, LARGEST_SEQUENCE),
                {name.removeprefix(_SESSION): tensor for name, tensor in tensors.items() if name.startswith(_SESSION)},
                SessionState(
                    metadata=metadata,
                    tensors={name: tensor for name, tensor in tensors.items() if not name.startswith(_SESSION)},
                ),
            )
        except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise StateError(f"these bytes are not a saved conversation ({error}); export it anew") from error


def _check_time_line(index: NDArray[np.generic]) -> None:
    """Check the seat's place on the time line, and the places of its frames that wait."""
    if index.ndim != 1 or not len(index) or index.dtype != np.int64 or index.min() < 0:
        raise ValueError(f"'seat.index' is {index.dtype} {list(index.shape)}")


def _metadata(header: bytes) -> dict[str, str]:
    metadata: dict[str, Any] = dict(parse_json(header).get("__metadata__", {}))
    return metadata


def _checked_id(session_id: str) -> str:
    """Check a session's id, which comes to stand in logs and in names of files."""
    if not _SESSION_ID.fullmatch(session_id):
        raise ValueError(f"{shown(session_id)} is no session's id")
    return session_id


def checked_numbers(state: Mapping[str, NDArray[np.generic]], name: str, *shape: int) -> NDArray[np.float64]:
    """Return numbers of a session's state, float64 of this shape (-1: any length), all from 0 to ``LARGEST_NUMBER``.

    :raises KeyError: if they are missing
    :raises ValueError: if they are of another shape or out of range
    """
    numbers = np.asarray(state[name])
    sizes_fit = numbers.ndim == len(shape) and all(
        size in (-1, n) for size, n in zip(shape, numbers.shape, strict=True)
    )
    if numbers.dtype != np.float64 or not sizes_fit:
        raise ValueError(f"'{name}' is {numbers.dtype} {list(numbers.shape)}")
    numbers = numbers.astype(np.float64)
    if not ((numbers >= 0) & (numbers <= LARGEST_NUMBER)).all():  # so is what is NaN
        raise ValueError(f"'{name}' has numbers out of range")
    return numbers
