"""How a slot begins: empty, with a prompt, or where a saved conversation was.

A prompt that several sessions begin with is fed to the model once, all but its last column; the state is kept, within
bounds, and put into the other sessions' slots. One that leaves something to choose is each session's own. Tokens are
the same as without: what the model chooses depends on a session's options, and the step of the last column is the first
whose choice is not overruled.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.frame_model import Conditions, EmbeddedPrefill, FrameModel, SessionState, split_columns
from duplex.options import SessionOptions
from duplex.prompting.conditions import default_conditions
from duplex.prompting.prompt import Prompt
from duplex.synthesis.protocol import Says

__all__ = ["Beginnings"]

COLUMNS = 32
"""Of a prompt that are fed in one piece, between two steps of the neighbours."""
HEARD_COLUMNS = 4
"""The same of a voice that the codec hears, too."""


class Beginnings:
    """Prepares the slots of one model, on its inference thread."""

    KEPT_PROMPTS = 8
    KEPT_BYTES = 1 << 30
    EXPORT_PIECE = 8_000_000
    """Bytes that are copied of a state in one piece."""

    def __init__(self, model: FrameModel) -> None:
        self._model = model
        self._kept: OrderedDict[str, SessionState] = OrderedDict()
        self._feeding: set[str] = set()

    def prepare(
        self,
        slot: int,
        options: SessionOptions,
        prompt: Prompt | None,
        state: SessionState | None,
        conditions: Conditions | None = None,
    ) -> Iterator[None]:
        """Prepare a slot, in pieces of about a step; ``conditions`` stand for those that are usual."""
        if state is not None:
            yield from self._model.restore(slot, state)
        elif prompt is None:
            self._open(slot, options, conditions)
        else:
            yield from self._begin(slot, options, prompt, conditions)

    def _begin(
        self, slot: int, options: SessionOptions, prompt: Prompt, conditions: Conditions | None
    ) -> Iterator[None]:
        key = prompt.key if conditions is None else f"{prompt.key} {_key(conditions)}"
        key = key if options.adapter is None else f"{key} {options.adapter}"  # which computes another past
        while key in self._feeding:  # for another session, which keeps it in a moment
            yield
        if key in self._kept:
            self._kept.move_to_end(key)
            yield from self._model.restore(slot, self._kept[key].with_options(options))
        elif prompt.known:
            yield from self._fed_once(slot, key, self._fed(slot, options, prompt, conditions))
        else:
            yield from self._fed(slot, options, prompt, conditions)
        self._model.prefill(slot, prompt.columns[:, -1:])

    def _fed_once(self, slot: int, key: str, pieces: Iterator[None]) -> Iterator[None]:
        """Feed a prompt for all sessions that begin with it; those that come meanwhile wait."""
        self._feeding.add(key)
        try:
            yield from pieces
            yield from self._keep(slot, key)
        finally:
            self._feeding.discard(key)

    def _open(self, slot: int, options: SessionOptions, conditions: Conditions | None = None) -> None:
        conditions = conditions or default_conditions(self._model.spec)
        if conditions is None:
            self._model.open(slot, options)
        else:
            self._model.open(slot, options, conditions)

    def _fed(self, slot: int, options: SessionOptions, prompt: Prompt, conditions: Conditions | None) -> Iterator[None]:
        """Open a slot, and feed it all of a prompt but its last column."""
        self._open(slot, options, conditions)
        if prompt.voice is not None and isinstance(self._model, Says):
            self._model.imitate(slot, prompt.voice)
        yield
        if prompt.embedded is not None:
            if not isinstance(self._model, EmbeddedPrefill):
                raise UsageError("this model takes a voice as a recording only; give one")
            yield from self._model.prefill_embedded(slot, prompt.embedded.inputs, prompt.embedded.tokens)
        for columns in split_columns(prompt.columns[:, :-1], COLUMNS if prompt.voice is None else HEARD_COLUMNS):
            self._model.prefill(slot, columns)
            yield

    def _keep(self, slot: int, key: str) -> Iterator[None]:
        """Keep the state for the next session that begins with this prompt."""
        tensors: dict[str, NDArray[np.generic]] = {}
        state, copied = self._model.export(slot), 0
        for name in state.tensors:
            tensors[name] = np.array(state.tensors[name])
            copied += tensors[name].nbytes
            if copied >= self.EXPORT_PIECE:
                copied = 0
                yield
        self._kept[key] = SessionState(metadata=dict(state.metadata), tensors=tensors)
        while len(self._kept) > self.KEPT_PROMPTS or (len(self._kept) > 1 and self._bytes() > self.KEPT_BYTES):
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(tensor.nbytes for state in self._kept.values() for tensor in state.tensors.values())


def _key(conditions: Conditions) -> str:
    """Return the hexadecimal SHA-256 of all of a session's conditions."""
    total = hashlib.sha256(json.dumps([dict(conditions.words), conditions.masked_until], sort_keys=True).encode())
    for name, array in sorted(
        {**conditions.vectors, **{f"{name}.": a for name, a in conditions.masks.items()}}.items()
    ):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    if conditions.null is not None:
        total.update(_key(conditions.null).encode())
    return total.hexdigest()
