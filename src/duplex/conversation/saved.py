"""A conversation as bytes, in safetensors: the slot's state, the session's, and the number of its next event."""

import json
from collections.abc import Mapping
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import StateError
from duplex.frame_model import SessionState

__all__ = ["SavedConversation"]

_SESSION = "session."


@attrs.frozen(eq=False)
class SavedConversation:
    """The state of a conversation, to resume it here, later or elsewhere."""

    session_id: str
    seed: int
    sequence: int
    session: Mapping[str, NDArray[np.generic]]
    slot: SessionState

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

        if not isinstance(data, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StateError(f"a saved conversation is bytes, not {type(data).__name__}; give what export() returned")
        data = bytes(data)
        try:
            length = int.from_bytes(data[:8], "little")
            tensors = load(data)
            metadata = _metadata(data[8 : 8 + length])
            _check_time_line(tensors["seat.index"])
            return cls(
                metadata["session_id"],
                int(metadata["seed"]),
                int(metadata["sequence"]),
                {name.removeprefix(_SESSION): tensor for name, tensor in tensors.items() if name.startswith(_SESSION)},
                SessionState(
                    metadata=metadata,
                    tensors={name: tensor for name, tensor in tensors.items() if not name.startswith(_SESSION)},
                ),
            )
        except (SafetensorError, KeyError, ValueError) as error:
            raise StateError(f"these bytes are not a saved conversation ({error}); export it anew") from error


def _check_time_line(index: NDArray[np.generic]) -> None:
    """Check the seat's place on the time line, and the places of its frames that wait."""
    if index.ndim != 1 or not len(index) or index.dtype != np.int64 or index.min() < 0:
        raise ValueError(f"'seat.index' is {index.dtype} {list(index.shape)}")


def _metadata(header: bytes) -> dict[str, str]:
    return dict(json.loads(header).get("__metadata__", {}))
