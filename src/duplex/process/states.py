"""Saved conversations as files, for recordings to go on from."""

import hashlib
from pathlib import Path

import attrs

from duplex.conversation.saved import SavedConversation
from duplex.errors import StateError, UsageError
from duplex.frame_model import OPTIONS_KEY, ModelSpec
from duplex.options import SessionOptions
from duplex.parsing import parse_json

__all__ = ["SavedStart", "read_state"]


@attrs.frozen(eq=False)
class SavedStart:
    """A saved conversation: its bytes, their hexadecimal SHA-256, and the options that it goes on with."""

    data: bytes
    sha256: str
    options: SessionOptions

    def frames(self, spec: ModelSpec) -> int:
        """Return how many time steps it has had."""
        return round(SavedConversation.from_bytes(self.data).resume_at(spec) * spec.frame_rate)


def read_state(path: Path) -> SavedStart:
    """Read a conversation that :meth:`duplex.Conversation.export` or ``duplex process --save-state`` has saved.

    :raises UsageError: if the file cannot be read
    :raises StateError: if it is none, or damaged
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); give a state that --save-state or Conversation.export has made"
        ) from None
    try:
        saved = SavedConversation.from_bytes(data)
    except StateError as error:
        raise StateError(f"{path}: {error}") from None
    return SavedStart(data, hashlib.sha256(data).hexdigest(), _options(saved, path))


def _options(saved: SavedConversation, path: Path) -> SessionOptions:
    try:
        given = parse_json(saved.slot.metadata.get(OPTIONS_KEY, "{}"))
        return attrs.evolve(SessionOptions(**given), seed=saved.seed)
    except (ValueError, TypeError, UsageError) as error:
        raise StateError(f"{path} has no options that can be read ({error}); save the conversation anew") from None
