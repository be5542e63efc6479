"""Known tokens into a slot: prompts, and sessions rebuilt from their token log.

Where everything that a run of steps would generate is known, the temporal transformer takes the run in one call and
nothing is sampled; a step with something left to choose is an ordinary one. The bookkeeping of delays is done on the
host, on a copy of the slot's token ring.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from duplex import delays as delay_rules
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Slot, SlotState
from duplex.frame_model import UNGENERATED

__all__ = ["LONGEST_RUN", "prefill"]

LONGEST_RUN = 32
"""Columns that go through the temporal transformer in one call; its ring has room for them."""


def prefill(lm: LanguageModel, rows: SlotState, slot: Slot, tokens: NDArray[np.int64]) -> int:
    """Advance one slot over ``tokens`` int64 ``[streams, n]``; return its new number of frames."""
    return _Prefill(lm, rows, slot, tokens).run()


class _Prefill:
    def __init__(self, lm: LanguageModel, rows: SlotState, slot: Slot, tokens: NDArray[np.int64]) -> None:
        self.lm, self.rows, self.slot, self.tokens = lm, rows, slot, tokens
        self.start = slot.frames
        self.heard = int((tokens[lm.user] != UNGENERATED).all(axis=0).sum())
        self.delays = np.array(lm.config.delays)
        self.shifted = self._with_ahead(delay_rules.delayed(tokens, lm.config.delays))
        self.generated = slice(0, lm.agent.stop)
        self.held = rows.tensors[f"{lm.key}.tokens"]
        self.ring = self.held[0].cpu().numpy().copy()
        self.initial = lm.initial.cpu().numpy()
        self.waiting: list[NDArray[np.int64]] = []

    def run(self) -> int:
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
        for ahead in range(max(*self.delays.tolist(), 1)):
            self._put(self.heard + ahead)
        self._push()
        self.slot.ahead = self.start + self.heard + 1, self.shifted[:, self.heard + 1 :]
        return self.start + self.heard

    def _with_ahead(self, shifted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add what the last piece of the same prompt knew of this one's steps."""
        index, ahead = self.slot.ahead
        if index == self.start + 1:
            width = min(ahead.shape[1], shifted.shape[1] - 1)
            mine = shifted[:, 1 : 1 + width]
            mine[:] = np.where(mine == UNGENERATED, ahead[:, :width], mine)
        return shifted

    def _column(self, column: int) -> NDArray[np.int64]:
        """Return what is known of a delayed column, counted from where the slot stands."""
        if column < self.shifted.shape[1]:
            return self.shifted[:, column]
        return np.full(len(self.delays), UNGENERATED)

    def _put(self, column: int) -> None:
        known = self._column(column)
        place = (self.start + column) % self.lm.ring_length
        self.ring[:, place] = np.where(known == UNGENERATED, self.ring[:, place], known)

    def _wait(self, column: int) -> None:
        index = self.start + column
        held = self.ring[:, index % self.lm.ring_length]
        self.waiting.append(np.where(index < self.delays, self.initial, held))
        if len(self.waiting) == LONGEST_RUN:
            self._flush()

    def _flush(self) -> None:
        """Run the temporal transformer over the columns that wait, and count their steps."""
        if not self.waiting:
            return
        step = self.rows.tensors[f"{self.lm.key}.step"]
        call = Call(self.rows, filled=int(step) + len(self.waiting))
        self.lm.temporal(torch.as_tensor(np.stack(self.waiting, axis=1)[None]).to(self.held.device), call)
        call.advance(f"{self.lm.key}.step", len(self.waiting))
        self.waiting.clear()

    def _step(self, column: int, known: NDArray[np.int64]) -> None:
        """Run one ordinary step, whose choices stand where nothing is known."""
        self._push()
        device = self.held.device
        user = torch.as_tensor(self.tokens[self.lm.user, column][None].copy()).to(device)
        call = Call(self.rows, filled=self.start + column + 2)
        self.lm(user, call, Sampling.of([self.slot.options]), torch.as_tensor(known[None].copy()).to(device))
        self.ring = self.held[0].cpu().numpy().copy()

    def _push(self) -> None:
        self.held.copy_(torch.as_tensor(self.ring[None]))

    def _log(self, frame: int) -> None:
        time = delay_rules.time_step_of(frame, self.lm.config.delays)
        if time >= 0:
            places = (time + self.delays) % self.lm.ring_length
            self.slot.log.append(self.ring[np.arange(len(places)), places])
