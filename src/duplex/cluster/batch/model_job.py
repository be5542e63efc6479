"""What jobs with a model have in common: how it is loaded, where it runs, and that each folder is complete."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from duplex.cluster.batch.places import Place
from duplex.cluster.batch.rows import Row
from duplex.engine.loading import check_choice

__all__ = ["ModelJob"]

CHOICES = ("backend", "device", "dtype", "quantize", "cache_dtype")
"""The arguments of :func:`duplex.load` that a machine may not be able to do."""


@attrs.frozen(kw_only=True)
class ModelJob:
    """A job that loads a model, once a worker.

    ``load`` are the arguments of :func:`duplex.load` beside the model's name, of which ``sessions`` says how many
    recordings a worker has in hand. ``small`` says that a worker has no use for more than one core.
    """

    load: Mapping[str, Any]
    small: bool = False

    @property
    def device(self) -> str | None:
        """The model's device."""
        return str(self.load.get("device", "auto"))

    @property
    def cpus(self) -> float | None:
        """One core for a small model, all of a machine for another."""
        return 1.0 if self.small else None

    @property
    def side_by_side(self) -> int:
        """The sessions of the model."""
        return int(self.load.get("sessions", 1))

    def checked_choice(self) -> dict[str, Any]:
        """Return what was chosen of the backend, the device and the like, if this machine can do it.

        :raises DuplexError: if it cannot
        """
        chosen = {name: self.load[name] for name in CHOICES if name in self.load}
        check_choice(**chosen)
        return chosen

    def finish(self, place: Place, rows: Sequence[Row]) -> None:
        """Do nothing: each folder of results is complete."""
