"""The settings that every run has: how long it is, and how fast it learns."""

from typing import Any, Literal

import attrs

from duplex.training.schedules import cosine_with_warmup
from duplex.training.validators import at_least, valid_seed

__all__ = ["Precision", "RunSettings"]

Precision = Literal["bfloat16", "float32"]
"""What products are computed in; weights, sums of gradients and losses are float32."""


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
    precision: Precision = attrs.field(default="bfloat16", validator=attrs.validators.in_(("bfloat16", "float32")))
    """What products are computed in. CPUs differ in which is faster; float32 takes more memory."""

    def as_json(self) -> dict[str, Any]:
        """Return what belongs to a run's identity: ``steps`` may change, later additions count where they are used."""
        values = attrs.asdict(self, filter=attrs.filters.exclude("steps"))
        if self.precision == attrs.fields(RunSettings).precision.default:
            del values["precision"]
        return values

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return cosine_with_warmup(self.learning_rate, step, self.warmup, self.steps)
