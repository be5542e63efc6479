"""The settings that every run has: how long it is, and how fast it learns."""

from typing import Any

import attrs

from duplex.training.schedules import cosine_with_warmup
from duplex.training.validators import at_least, valid_seed

__all__ = ["RunSettings"]


@attrs.frozen(kw_only=True)
class RunSettings:
    """Settings of a run. Only ``steps`` may change when a run is resumed."""

    steps: int = attrs.field(validator=at_least(1))
    batch: int = attrs.field(validator=at_least(1))
    """Examples at a time, on each device."""
    learning_rate: float = attrs.field(validator=at_least(0))
    """The highest."""
    warmup: int = attrs.field(validator=at_least(0))
    """First steps, in which the learning rate rises."""
    seed: int = attrs.field(default=0, validator=valid_seed)

    def as_json(self) -> dict[str, Any]:
        """Return what belongs to a run's identity."""
        return attrs.asdict(self, filter=attrs.filters.exclude("steps"))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return cosine_with_warmup(self.learning_rate, step, self.warmup, self.steps)
