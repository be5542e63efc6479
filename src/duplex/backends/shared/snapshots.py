"""The format of an exported slot.

A state holds a backend's tensors under names of its own, a prefix for the codec's and :data:`LANGUAGE_MODEL` for the
rest; a ring of past positions (:data:`CACHE` in its name) without its empty places, oldest first; and the session's
token log, from which any backend rebuilds what it cannot take over.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import attrs

from duplex import __version__
from duplex.backends.shared.conditions import describe_conditions
from duplex.backends.shared.slots import Slot
from duplex.errors import StateError
from duplex.frame_model import OPTIONS_KEY, ModelSpec
from duplex.options import SessionOptions

__all__ = [
    "AHEAD",
    "CACHE",
    "LANGUAGE_MODEL",
    "LOG",
    "NULL",
    "OPTIONS",
    "RESTORE_PIECE",
    "SCRIPT",
    "Origin",
    "checked",
    "describe",
    "position_of",
]

VERSION = "1"
RESTORE_PIECE = 1 << 23
"""Bytes that are put into a slot in one piece, rounded up to whole tensors."""
CACHE = ".cache."
ADAPTER = "adapter"
"""Where the metadata has the fingerprint of the session's own adapter, if it has one."""
LOG = "log"
AHEAD = "ahead"
LANGUAGE_MODEL = "lm."
NULL = f"{LANGUAGE_MODEL}null."
"""Prefix of what belongs to the second row of a session with guidance."""
OPTIONS = f"{LANGUAGE_MODEL}options."
"""What a step reads of the session's options; it is made of those in the metadata, and not part of a state."""
SCRIPT = f"{LANGUAGE_MODEL}script."
"""Prefix of what belongs to the text that a slot of synthesis says: the same on any backend, in any numbers."""


@attrs.frozen
class Origin:
    """What computed a state: another takes over only what does not depend on it."""

    backend: str
    numbers: str
    """The dtypes of weights and cache, in words."""
    fingerprint: str
    """Of the checkpoint."""
    products: Mapping[str, str] = attrs.field(factory=dict[str, str], eq=False)
    """How weights are multiplied, where that was chosen: it rounds sums otherwise, and the tensors fit all the same."""

    adapters: Mapping[str, str] = attrs.field(factory=dict[str, str], eq=False)
    """Fingerprints of those that a session may choose, by name."""

    def options(self, options: SessionOptions, metadata: Mapping[str, str]) -> SessionOptions:
        """Return a saved session's options with its adapter as it is called here."""
        wanted = metadata.get(ADAPTER)
        return attrs.evolve(
            options, adapter=next((name for name in self.adapters if self.adapters[name] == wanted), None)
        )

    def made(self, metadata: Mapping[str, str]) -> bool:
        """Return whether a state comes from the same backend and dtypes: then all of its tensors can be taken over."""
        return (metadata["backend"], metadata["dtype"]) == (self.backend, self.numbers)


def describe(slot: Slot, spec: ModelSpec, origin: Origin) -> dict[str, str]:
    """Return the metadata of a slot's state."""
    adapter = {} if slot.options.adapter is None else {ADAPTER: origin.adapters[slot.options.adapter]}
    return {
        **adapter,
        "version": VERSION,
        "backend": origin.backend,
        "dtype": origin.numbers,
        "fingerprint": origin.fingerprint,
        OPTIONS_KEY: slot.options.to_json(),
        "frames": str(slot.frames),
        "spec": json.dumps(attrs.asdict(spec)),
        "ahead": str(slot.ahead[0]),
        "embedded": str(slot.embedded),
        "conditions": describe_conditions(slot.conditions),
        "products": json.dumps(dict(origin.products)),
    }


@contextmanager
def checked(metadata: Mapping[str, str], origin: Origin) -> Generator[None]:
    """Check that a state is of this format and checkpoint; what fails to be read in the block is damage.

    :raises StateError: if it is of another, or damaged
    """
    _check(metadata, origin)
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, OverflowError) as error:
        raise StateError(f"the state is damaged ({error}); export it anew") from error


def _check(metadata: Mapping[str, str], origin: Origin) -> None:
    if metadata.get("version") != VERSION:
        raise StateError(
            f"the state has format {metadata.get('version')!r}, and duplex {__version__} reads {VERSION!r}; "
            "go on with the version that wrote it, or export it anew"
        )
    if metadata.get("fingerprint") != origin.fingerprint:
        raise StateError(
            "the state was taken from another checkpoint; load the same model, revision and adapter to go on"
        )
    if metadata.get(ADAPTER) is not None and metadata[ADAPTER] not in origin.adapters.values():
        raise StateError(
            "the session has an adapter of its own, with which this model was not loaded; load it with the same "
            "adapters=, or serve --adapter NAME=PATH, to go on"
        )


def position_of(cache: str) -> str:
    """Return the name of the tensor that counts a cache's positions; both rows of guidance have the same."""
    return cache.replace(NULL, LANGUAGE_MODEL, 1).partition(CACHE)[0] + ".position"
