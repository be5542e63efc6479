"""Learning rate schedules."""

import math

__all__ = ["cosine_with_warmup"]


def cosine_with_warmup(highest: float, step: int, warmup: int, steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay to a fiftieth of ``highest``."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return highest * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
