"""Guidance (classifier-free): a second row of every slot, without its conditions, from which logits are led away.

A slot's rows lie side by side in the state of the temporal transformer, the conditioned one first, and so in a batch:
2 b and 2 b + 1 are those of its row b. Both read the tokens that their logits together have chosen. A model has them or
not as it was loaded; a session whose coefficient is 1 then computes the second row for nothing.
"""

import attrs
import torch
from torch import Tensor

from duplex.backends.torch.state import StateSpec
from duplex.frame_model import ZERO, Conditions
from duplex.options import SessionOptions

__all__ = ["COEFFICIENT", "MASKED", "Guidance", "fed", "pairs"]

COEFFICIENT, MASKED = "options.guidance", "options.masked"
"""Names in the state: the coefficient, and for how many steps the second row reads no tokens."""


@attrs.frozen(eq=False)
class Guidance:
    """The guidance of a batch of slots."""

    coefficient: Tensor
    """float32 ``[batch, 1]``; 1 is without."""

    @staticmethod
    def state_spec() -> dict[str, StateSpec]:
        """Return the tensors that hold each slot's guidance."""
        return {COEFFICIENT: StateSpec((), torch.float32), MASKED: StateSpec((), torch.int64)}

    @staticmethod
    def write(tensors: dict[str, Tensor], options: SessionOptions, conditions: Conditions) -> None:
        """Put one slot's guidance into the tensors of that slot."""
        tensors[COEFFICIENT].fill_(1.0 if options.guidance is None else options.guidance)
        tensors[MASKED].fill_(conditions.masked_until)

    def doubled(self, x: Tensor) -> Tensor:
        """Return ``[batch, ...]`` for both rows of each slot, ``[2 * batch, ...]``."""
        return x.repeat_interleave(2, dim=0)

    def guided(self, logits: Tensor) -> Tensor:
        """Return the logits ``[batch, vocabulary]`` that both rows' ``[2 * batch, vocabulary]`` make together."""
        first, second = pairs(logits)
        return torch.where(self.coefficient == 1, first, second + self.coefficient * (first - second))


def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second rows of ``[2 * batch, ...]``, ``[batch, ...]`` each."""
    return x[0::2], x[1::2]


def fed(tokens: Tensor, step: Tensor, masked: Tensor, delays: Tensor, *, textless: bool) -> Tensor:
    """Return what both rows read of ``tokens`` int64 ``[batch, streams, n]``: ``[2 * batch, streams, n]``.

    The second one reads no token but the initial ones in its first ``masked`` int64 ``[batch]`` steps beyond each
    delay, and, ``textless``, never any text. ``step`` int64 ``[batch]`` counts the steps before.
    """
    at = step[:, None, None] + torch.arange(tokens.shape[2], device=tokens.device)
    begins = delays[:, None]
    hidden = (at > begins) & (at <= begins + masked[:, None, None])
    if textless:
        text = torch.arange(tokens.shape[1], device=tokens.device)[:, None] == 0
        hidden = hidden | (text & (at > begins))
    return torch.stack([tokens, tokens.masked_fill(hidden, ZERO)], dim=1).flatten(0, 1)
