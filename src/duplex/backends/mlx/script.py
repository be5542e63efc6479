"""Where a text that is to be said takes part in a step: between temporal and depth transformer, and after both."""

from typing import Protocol

import mlx.core as mx

from duplex.backends.mlx.state import Call, StateSpec

__all__ = ["Script"]


class Script(Protocol):
    """What makes of the sampled tokens those of a text that is to be said.

    It is run for all rows of a batch at once, as a part of compiled steps: operations on arrays alone, whose shapes do
    not depend on their values. What it remembers lies in the slots' state, as ``<key>.<name>``.
    """

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the arrays that it needs for a slot, by their last name."""
        ...

    def text(self, sampled: mx.array, step: mx.array, call: Call, key: str) -> mx.array:
        """Return the text token that is said for the one that was sampled, int32 ``[batch]`` both.

        ``step`` int32 ``[batch]`` is the number of the step, 0 the initial one.
        """
        ...

    def codes(self, chosen: mx.array, step: mx.array, call: Call, key: str) -> mx.array:
        """Return which codes are said for those that were chosen, int32 ``[batch, agent_streams]`` both."""
        ...
