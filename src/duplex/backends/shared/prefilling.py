"""Prefill of a slot with known tokens: prompts, and sessions rebuilt from their token log.

Where everything that a run of steps would generate is known, the temporal transformer takes the run in one call and
nothing is sampled; a step with something left to choose is an ordinary one. The bookkeeping of delays is done here, on
a copy of the slot's token ring; what computes is the backend's :class:`PrefillTarget`.

It is done in pieces, of a call each: a log of hours takes minutes, and neighbours are stepped in between.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared.slots import Slot
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.frame_model import LONGEST_RUN, UNGENERATED, ModelSpec

__all__ = ["LONGEST_RUN", "PrefillTarget", "check_inputs", "prefill", "prefill_embedded"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class PrefillTarget(Protocol):
    """One slot of a backend's language model."""

    def fetch(self) -> Int64:
        """Return a copy of the slot's ring of delayed tokens, int64 ``[streams, ring_length]``."""
        ...

    def push(self, ring: Int64) -> None:
        """Replace the slot's ring."""
        ...

    def forward(self, columns: Int64) -> None:
        """Run the temporal transformer over delayed tokens ``[streams, n]``, and count ``n`` steps."""
        ...

    def forward_embedded(self, inputs: Float32) -> None:
        """Run the temporal transformer over sums of embeddings ``[n, dim]``, and count ``n`` steps."""
        ...

    def step(self, user: Int64, known: Int64) -> None:
        """Run an ordinary step, as for the first frames of a conversation.

        ``user`` is ``[user_streams]``; ``known`` ``[1 + agent_streams]`` stands for a choice where it is not
        ``UNGENERATED``. The ring has been pushed before.
        """
        ...


def prefill(
    target: PrefillTarget, config: LanguageModelConfig, slot: Slot, tokens: Int64, frames: int | None = None
) -> Iterator[None]:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``, in pieces; its frames are counted with the last.

    Columns whose user tokens are known advance it, at most ``frames`` of them: of a model that hears nothing, all
    would. Between two pieces the slot must be left alone.
    """
    return _Prefill(target, config, slot, tokens, frames).run()


def check_inputs(inputs: Float32, tokens: Int64, spec: ModelSpec, dim: int) -> None:
    """Check what :func:`prefill_embedded` is to be given.

    :raises UsageError: if it does not fit the model
    """
    spec.check_tokens(tokens)
    if inputs.shape != (tokens.shape[1], dim) or not np.isfinite(inputs).all():
        raise UsageError(
            f"the inputs are {inputs.dtype} {list(inputs.shape)}, but finite numbers of shape "
            f"[{tokens.shape[1]}, {dim}] are wanted; were they made for another model?"
        )


def prefill_embedded(
    target: PrefillTarget, config: LanguageModelConfig, slot: Slot, inputs: Float32, tokens: Int64
) -> Iterator[None]:
    """Advance one slot over ``inputs`` float32 ``[n, dim]``, in pieces.

    ``tokens`` int64 ``[streams, n]`` is what is known of the same columns; the last ``max(delays)`` are complete.
    """
    start, count = slot.frames, len(inputs)
    for first in range(0, count, LONGEST_RUN):
        target.forward_embedded(inputs[first : first + LONGEST_RUN])
        yield
    shifted = delay_rules.delayed(tokens, config.delays)
    ring, length = target.fetch(), delay_rules.ring_length(config.delays)
    for column in range(shifted.shape[1]):
        known = shifted[:, column]
        place = (start + column) % length
        ring[:, place] = np.where(known == UNGENERATED, ring[:, place], known)
    target.push(ring)
    for time in range(start, delay_rules.time_step_of(start + count - 1, config.delays) + 1):
        slot.log.append(tokens[:, time - start])
    slot.frames = slot.embedded = start + count
    slot.ahead = start + count + 1, shifted[:, count + 1 :].copy()


class _Prefill:
    def __init__(
        self, target: PrefillTarget, config: LanguageModelConfig, slot: Slot, tokens: Int64, frames: int | None
    ) -> None:
        self.target, self.slot, self.tokens = target, slot, tokens
        self.start = slot.frames
        self.generated = slice(0, 1 + config.agent_streams)
        self.user = slice(1 + config.agent_streams, len(config.delays))
        heard = int((tokens[self.user] != UNGENERATED).all(axis=0).sum())
        self.heard = heard if frames is None else min(heard, frames)
        self.delays = np.array(config.delays)
        self.shifted = self._with_ahead(delay_rules.delayed(tokens, config.delays))
        self.ring_length = delay_rules.ring_length(config.delays)
        self.ring = target.fetch()
        self.initial = np.array([config.text_card] + [config.card] * (len(config.delays) - 1))
        self.waiting: list[Int64] = []

    def run(self) -> Iterator[None]:
        """Feed every column whose user tokens are known, then fix what is known ahead of them."""
        for column in range(self.heard):
            self._put(column)
            known = self._column(column + 1)[self.generated]
            if column + 1 < self.heard and (known != UNGENERATED).all():
                self._wait(column)
            else:
                self._flush()
                self._step(column, known)
            self._put(column + 1)
            self._log(self.start + column)
            if not self.waiting:  # they, or a step, have just been computed
                yield
        for ahead in range(max(*self.delays.tolist(), 1)):
            self._put(self.heard + ahead)
        self.target.push(self.ring)
        self.slot.ahead = self.start + self.heard + 1, self.shifted[:, self.heard + 1 :].copy()
        self.slot.frames = self.start + self.heard

    def _with_ahead(self, shifted: Int64) -> Int64:
        """Add what the last piece of the same prompt knew of this one's steps."""
        index, ahead = self.slot.ahead
        if index == self.start + 1:
            width = min(ahead.shape[1], shifted.shape[1] - 1)
            mine = shifted[:, 1 : 1 + width]
            mine[:] = np.where(mine == UNGENERATED, ahead[:, :width], mine)
        return shifted

    def _column(self, column: int) -> Int64:
        """Return what is known of a delayed column, counted from where the slot stands."""
        if column < self.shifted.shape[1]:
            return self.shifted[:, column]
        return np.full(len(self.delays), UNGENERATED)

    def _put(self, column: int) -> None:
        known = self._column(column)
        place = (self.start + column) % self.ring_length
        self.ring[:, place] = np.where(known == UNGENERATED, self.ring[:, place], known)

    def _wait(self, column: int) -> None:
        index = self.start + column
        held = self.ring[:, index % self.ring_length]
        self.waiting.append(np.where(index < self.delays, self.initial, held))
        if len(self.waiting) == LONGEST_RUN:
            self._flush()

    def _flush(self) -> None:
        """Run the temporal transformer over the columns that wait, and count their steps."""
        if self.waiting:
            self.target.forward(np.stack(self.waiting, axis=1))
            self.waiting.clear()

    def _step(self, column: int, known: Int64) -> None:
        """Run one ordinary step, whose choices stand where nothing is known."""
        self.target.push(self.ring)
        self.target.step(self.tokens[self.user, column].copy(), known.copy())
        self.ring = self.target.fetch()

    def _log(self, frame: int) -> None:
        time = delay_rules.time_step_of(frame, tuple(self.delays.tolist()))
        if time >= 0:
            places = (time + self.delays) % self.ring_length
            self.slot.log.append(self.ring[np.arange(len(places)), places])
