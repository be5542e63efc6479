"""Dialogues whose tokens are all known, scored side by side in slots of the model, between its conversations' steps.

Rules:

- A job of the inference thread scores what there is, a piece at a time; it ends when nothing is left.
- A piece is one call for all dialogues that are left, over as many steps of each: at most ``PIECE`` in all, so that
  conversations on the same model do not wait long.
- Text that is not known is the model's own choice, which the next step reads: such dialogues go on one step a piece.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.engine.failures import conversation_error
from duplex.engine.seat import Inference, Job, Seat
from duplex.errors import UsageError
from duplex.frame_model import LONGEST_RUN, UNGENERATED, FrameModel, ScoresTokens, TokenScores
from duplex.prompting.conditions import default_conditions

__all__ = ["PIECE", "Scoring", "Stretch", "check_scores"]

Int64 = NDArray[np.int64]
PIECE = 128
"""Steps of all dialogues together that are scored in one piece."""


def check_scores(model: FrameModel) -> ScoresTokens:
    """Return the model as one that scores tokens.

    :raises UsageError: if it does not
    """
    if not isinstance(model, ScoresTokens):
        raise UsageError("this model scores no tokens; give one that does, as those of the torch and MLX backends do")
    return model


@attrs.define(eq=False)
class Stretch:
    """A dialogue being scored.

    ``inputs`` int64 ``[streams, n]`` and ``targets`` int64 ``[1 + agent_streams, n]`` are as in
    :meth:`duplex.frame_model.ScoresTokens.score`, of one row. ``found`` are the scores that nobody has taken yet, of
    one row each.
    """

    seat: Seat
    inputs: Int64
    targets: Int64
    notify: Callable[[], None]
    done: int = 0
    """Steps that have been scored."""
    found: deque[TokenScores] = attrs.Factory(deque[TokenScores])
    error: Exception | None = None

    @property
    def left(self) -> int:
        """Steps that are to be scored."""
        return self.targets.shape[1] - self.done

    @property
    def free(self) -> bool:
        """Whether the next step's text is the model's choice."""
        return bool(self.targets[0, self.done] == UNGENERATED)

    def piece(self, steps: int) -> tuple[Int64, Int64]:
        """Return the inputs and targets of the next steps."""
        stretch = slice(self.done, self.done + steps)
        return self.inputs[:, stretch], self.targets[:, stretch]

    def take(self, scores: TokenScores) -> None:
        """Add the scores of the next steps; the step after them reads what the model has chosen."""
        steps = scores.text.shape[1]
        if self.free and self.done + steps < self.targets.shape[1]:
            self.inputs[0, self.done + steps] = scores.text[0, -1]
        self.found.append(scores)
        self.done += steps


class Scoring:
    """What is being scored on one model."""

    def __init__(self, engine: Inference) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._stretches: list[Stretch] = []
        self._running = False

    def prepare(self, slot: int) -> Iterator[None]:
        """Open a slot for scoring (the inference thread)."""
        model = check_scores(self._engine.model)
        conditions = default_conditions(self._engine.model.spec)
        if conditions is None:
            model.open_for_scoring(slot)
        else:
            model.open_for_scoring(slot, conditions)
        yield from ()

    def add(self, stretch: Stretch) -> None:
        """Score a dialogue; its seat has been taken with :meth:`prepare`."""
        with self._lock:
            self._stretches.append(stretch)
            if self._running:
                return
            self._running = True
        self._engine.submit(self._run())

    def _run(self) -> Job:
        try:
            while (ready := self._next()) is not None:
                if ready:
                    self._score(ready)
                yield
        except BaseException:  # also if the engine forgets its jobs: what is added next has to have another one
            with self._lock:
                self._running = False
            raise

    def _next(self) -> list[Stretch] | None:
        """Return what can be scored now; ``None``, which ends the job, if nothing is left."""
        with self._lock:
            self._stretches = [each for each in self._stretches if self._goes_on(each)]
            if not self._stretches:
                self._running = False
                return None
            # Whether it has failed is looked at last: another thread may fail it, and it counts as ready then.
            return [each for each in self._stretches if each.seat.ready and not each.seat.over]

    @staticmethod
    def _goes_on(stretch: Stretch) -> bool:
        return not (stretch.seat.over or stretch.error) and stretch.left > 0

    def _score(self, stretches: list[Stretch]) -> None:
        """Advance dialogues by as many steps each."""
        batch = sorted(stretches, key=lambda each: each.seat.slot)[:PIECE]
        steps = min(*(each.left for each in batch), LONGEST_RUN, max(PIECE // len(batch), 1))
        steps = 1 if any(each.free for each in batch) else min(steps, *(_known(each, steps) for each in batch))
        pieces = [each.piece(steps) for each in batch]
        try:
            inputs, targets = (np.stack(arrays) for arrays in zip(*pieces, strict=True))
            slots = [each.seat.slot for each in batch]
            scores = check_scores(self._engine.model).score(slots, inputs, targets)
        except Exception as error:  # noqa: BLE001 -- it belongs to those who are scored
            for each in batch:
                each.error = conversation_error(error)
                each.notify()
            return
        for row, each in enumerate(batch):
            own = slice(row, row + 1)
            each.take(
                TokenScores(
                    log_probabilities=scores.log_probabilities[own], ranks=scores.ranks[own], text=scores.text[own]
                )
            )
            each.notify()


def _known(stretch: Stretch, steps: int) -> int:
    """Return how many of the next steps come before one whose text is the model's choice."""
    free = np.flatnonzero(stretch.targets[0, stretch.done : stretch.done + steps] == UNGENERATED)
    return int(free[0]) if len(free) else steps
