"""How a learning rate goes through a run."""

import math

__all__ = ["warmed_cosine"]


def warmed_cosine(highest: float, step: int, warmup: int, steps: int) -> float:
    """Return the rate of a step: a short rise, then half a cosine down to a fiftieth."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return highest * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
