"""A training run, step by step, whatever is trained.

1. Everything that is random depends on the seed and the step alone, so a run goes on at its last checkpoint as if it
   had not stopped.
2. A checkpoint is written every ``save_every`` seconds, at the end, and when the run is interrupted. What there is to
   look at or listen to, curves and a release are written with it, each time a tenth of the run is done.
3. Gradients are clipped group by group; in bfloat16 everything but weights and losses is computed.
"""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, cast

import attrs
import torch
from torch import Tensor, nn

from duplex.errors import TrainingError
from duplex.training.devices import Place
from duplex.training.interrupts import interrupts_between_steps
from duplex.training.run_folder import RunFolder

__all__ = ["Report", "Settings", "Trainer"]

LOG_EVERY = 25
VALIDATE_EVERY = 500
GRADIENT_NORM = 1.0


@attrs.frozen(kw_only=True)
class Report:
    """How far a run is: steps done and wanted, seconds of audio learnt from in a second, and the mean losses."""

    step: int
    steps: int
    speed: float
    losses: Mapping[str, float]


class Settings(Protocol):
    """What every run has chosen."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        ...

    @property
    def seed(self) -> int:
        """What chance depends on."""
        ...


class Trainer(ABC):
    """A run in memory; subclasses say what is learnt."""

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.99)
    WEIGHT_DECAY: ClassVar[float] = 0.01

    def __init__(self, model: nn.Module, settings: Settings, run: RunFolder, place: Place, seconds: float) -> None:
        self.place = place
        self.run = run
        self.step: int = 0
        self._module = model
        self._settings = settings
        self._seconds = seconds
        """Of audio in a step, of all processes together."""
        self._optimizer: Any = torch.optim.AdamW(
            model.parameters(), lr=0.0, betas=self.BETAS, weight_decay=self.WEIGHT_DECAY, fused=True
        )
        self._sums: dict[str, float] = defaultdict(float)

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """Return the losses of this step, ``total`` among them."""

    @abstractmethod
    def learning_rate(self) -> float:
        """Return the rate of this step."""

    @abstractmethod
    def groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return what has its gradients clipped together."""

    @abstractmethod
    def validated(self) -> dict[str, float]:
        """Return the losses on what is kept apart."""

    @abstractmethod
    def show(self) -> None:
        """Write what can be listened to, and a release."""

    def begin_step(self) -> None:  # noqa: B027 -- there may be nothing
        """Do what is due before this step."""

    def end_gradients(self) -> None:  # noqa: B027
        """Take gradients away that this step shall not follow."""

    def restored(self) -> None:  # noqa: B027
        """Compute what follows from weights that were just loaded."""

    def resume(self) -> None:
        """Go on at the last checkpoint, if there is one."""
        saved = self.run.load(self.place.device)
        if saved is None:
            return
        self._module.load_state_dict(saved["model"])
        self.restored()
        self._optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]

    def train(self, save_every: float, progress: Callable[[Report], None] | None) -> None:
        """Make the steps that are left.

        :raises TrainingError: if a loss is no longer finite
        :raises OutputError: if something cannot be written; the last checkpoint stays
        """
        steps = self._settings.steps
        tenth = max(1, steps // 10)
        saved_at = logged_at = time.monotonic()
        with interrupts_between_steps() as check:
            while self.step < steps:
                self._make_step()
                last = self.step == steps
                if self.step % LOG_EVERY == 0 or last:
                    now = time.monotonic()
                    report = self._logged(now - logged_at)
                    logged_at = now
                    if progress and self.place.leads:
                        progress(report)
                if (self.step % tenth == 0 or last) and self.place.leads:
                    self.show()
                    self.run.plot()
                interrupted = check()
                if last or interrupted or time.monotonic() - saved_at > save_every:
                    self._save()
                    saved_at = time.monotonic()
                if interrupted:
                    raise KeyboardInterrupt

    def autocast(self) -> torch.autocast:
        """Return what a forward pass is computed under."""
        return torch.autocast(self.place.device.type, torch.bfloat16)

    def generator(self) -> torch.Generator:
        """Return what this step may draw from."""
        return torch.Generator().manual_seed(self._settings.seed * 2**32 + self.step)

    def _make_step(self) -> None:
        self.begin_step()
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        with self.autocast():
            losses = self.losses()
        total = losses["total"]
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss is no longer finite at step {self.step}; it would be so again: "
                "start anew in another folder, with a smaller --learning-rate"
            )
        self._optimizer.zero_grad(set_to_none=True)
        cast("Any", total).backward()
        self.place.average(self._module)
        norms = {
            f"gradient_{name}": torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            for name, parameters in self.groups().items()
        }
        self.end_gradients()
        self._optimizer.step()
        self.step += 1
        for name, value in {**losses, **norms}.items():
            self._sums[name] += float(value.detach())
        self._sums["count"] += 1

    def _logged(self, seconds: float) -> Report:
        count = self._sums.pop("count")
        losses = {name: value / count for name, value in self._sums.items()}
        self._sums.clear()
        if self.step % VALIDATE_EVERY == 0 or self.step == self._settings.steps:
            self._module.eval()
            with torch.no_grad():
                losses |= {f"validation_{name}": value for name, value in self.validated().items()}
            self._module.train()
        self.run.log(self.step, losses)
        return Report(step=self.step, steps=self._settings.steps, speed=count * self._seconds / seconds, losses=losses)

    def _save(self) -> None:
        if self.place.leads:
            self.run.save(
                {"step": self.step, "model": self._module.state_dict(), "optimizer": self._optimizer.state_dict()}
            )
