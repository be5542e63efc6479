"""Where a text that is to be said takes part in a step: between temporal and depth transformer, and after both."""

from typing import Protocol

from torch import Tensor

from duplex.backends.torch.state import Call, StateSpec

__all__ = ["Script"]


class Script(Protocol):
    """What makes of the sampled tokens those of a text that is to be said.

    It is run for all rows of a batch at once, as a part of traced and captured steps: operations on tensors alone,
    whose shapes do not depend on their values. What it remembers lies in the slots' state, as ``<key>.<name>``.
    """

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the tensors that it needs for a slot, by their last name."""
        ...

    def text(self, sampled: Tensor, step: Tensor, call: Call, key: str) -> Tensor:
        """Return the text token that is said for the one that was sampled, int64 ``[batch]`` both.

        ``step`` int64 ``[batch]`` is the number of the step, 0 the initial one.
        """
        ...

    def codes(self, chosen: Tensor, step: Tensor, call: Call, key: str) -> Tensor:
        """Return which codes are said for those that were chosen, int64 ``[batch, agent_streams]`` both."""
        ...
