"""Guidance (classifier-free): a second row of a session, without its conditions, from which its logits are led away.

The second row has a temporal cache of its own, and reads the tokens that the first one's logits and its own together
have chosen. It lies in the session's state under :data:`NULL`, and only in that of a session with guidance.
"""

from collections.abc import Sequence

import attrs
import mlx.core as mx

from duplex.backends.mlx.state import Call, SlotState
from duplex.backends.shared.snapshots import LANGUAGE_MODEL, NULL

__all__ = ["COEFFICIENT", "MASKED", "Guidance", "guided_rows", "put_back", "taken_rows"]

COEFFICIENT, MASKED = "lm.options.guidance", "lm.options.masked"
"""Names of the arrays with the coefficient, and with how many steps the second row reads nothing at first."""


def guided_rows(states: Sequence[SlotState]) -> tuple[int, ...]:
    """Return the rows that have a second one."""
    return tuple(row for row, state in enumerate(states) if COEFFICIENT in state)


def taken_rows(call: Call, rows: Sequence[int], shared: str) -> list[SlotState]:
    """Return the second rows of ``rows``, under the names of a first one's; ``shared`` is a counter of both."""
    taken: list[SlotState] = []
    for row in rows:
        state = call.rows[row]
        names = [name for name in state if name.startswith(NULL)]
        # Taken out: what nobody else holds, the new one is written into.
        taken.append(
            {LANGUAGE_MODEL + name.removeprefix(NULL): state.pop(name) for name in names} | {shared: state[shared]}
        )
    return taken


def put_back(call: Call, rows: Sequence[int], taken: Sequence[SlotState], shared: str) -> None:
    """Put the second rows back into their sessions' states."""
    for row, state in zip(rows, taken, strict=True):
        call.rows[row].update(
            {NULL + name.removeprefix(LANGUAGE_MODEL): value for name, value in state.items() if name != shared}
        )


@attrs.frozen(eq=False)
class Guidance:
    """The guided rows of a batch: their second rows come after the batch's own, in this order."""

    batch: int
    rows: tuple[int, ...]
    coefficient: mx.array
    """float32 ``[rows, 1]``"""
    masked: mx.array
    """int32 ``[rows]``"""
    step: mx.array
    """int32 ``[rows]``: how many steps each row has had before this call."""

    @classmethod
    def of(cls, call: Call, step: str) -> "Guidance | None":
        """Return the guidance of a call's rows, ``None`` without any; ``step`` is the counter of their steps."""
        rows = guided_rows(call.rows)
        if not rows:
            return None
        held = [call.rows[row] for row in rows]
        coefficient, masked, steps = (mx.stack([row[name] for row in held]) for name in (COEFFICIENT, MASKED, step))
        return cls(len(call.rows), rows, coefficient[:, None], masked, steps)

    def doubled(self, x: mx.array) -> mx.array:
        """Return ``[batch, ...]`` with the guided rows a second time."""
        return mx.concatenate([x, x[mx.array(self.rows)]])

    def guided(self, logits: mx.array) -> mx.array:
        """Return the batch's logits ``[batch, vocabulary]`` of those of all rows."""
        first, second = logits[: self.batch], logits[self.batch :]
        led = second + self.coefficient * (first[mx.array(self.rows)] - second)
        places = {row: place for place, row in enumerate(self.rows)}
        return mx.stack([led[places[row]] if row in places else first[row] for row in range(self.batch)])
