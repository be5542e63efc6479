"""The training loop, whatever model is trained.

1. All randomness depends on the seed and the step alone, so a resumed run continues exactly as if it had not stopped.
2. A checkpoint is written every ``save_every`` seconds, at the end, and when the run is interrupted. Plots, samples and
   an export are written after each tenth of the run.
3. Gradients are clipped per group; products are computed in the settings' precision, weights and losses are float32.
4. Of several processes each computes its share of a batch; gradients and losses are averaged, so that all take the same
   step, stop at the same one, and fail together. The first one writes.
"""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import attrs
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duplex.backends.torch.allocator import trim
from duplex.errors import TrainingError
from duplex.training.distributed import DistributedContext
from duplex.training.interrupts import defer_interrupts
from duplex.training.run_folder import RunFolder
from duplex.training.settings import RunSettings

__all__ = ["Trainer", "TrainingProgress"]

LOG_EVERY = 25
VALIDATE_EVERY = 500
GRADIENT_NORM = 1.0


@attrs.frozen(kw_only=True)
class TrainingProgress:
    """The progress of a run: steps done and in total, seconds of audio per second, and mean losses."""

    step: int
    steps: int
    speed: float
    losses: Mapping[str, float]


class Trainer(ABC):
    """The state of a run; subclasses define model, losses and outputs."""

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.99)
    WEIGHT_DECAY: ClassVar[float] = 0.01
    parts: int = 1
    """Batches per step, whose gradients are averaged."""
    leaves_out: bool = True
    """Whether a step may leave some of the parameters out."""

    def __init__(
        self,
        model: nn.Module,
        settings: RunSettings,
        run: RunFolder,
        distributed: DistributedContext,
        seconds: float,
    ) -> None:
        self.distributed = distributed
        self.run = run
        self.step: int = 0
        self.forward: nn.Module = distributed.parallel(model, unused=self.leaves_out)
        """The model, as it is called for a step's losses."""
        self._module = model
        self._settings = settings
        self._seconds = seconds
        """Seconds of audio per step, over all processes."""
        self._optimizer: Any = torch.optim.AdamW(
            [each for each in model.parameters() if each.requires_grad],
            lr=0.0,
            betas=self.BETAS,
            weight_decay=self.WEIGHT_DECAY,
            fused=True,
        )
        self._sums: dict[str, float] = defaultdict(float)

    @abstractmethod
    def losses(self, part: int = 0) -> dict[str, Tensor]:
        """Return the losses of one of this step's batches, including ``total``."""

    def learning_rate(self) -> float:
        """Return the learning rate of this step."""
        return self._settings.learning_rate_at(self.step)

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the parameters by group; each group's gradients are clipped by their joint norm."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return the losses on the validation set."""

    @abstractmethod
    def write_outputs(self) -> None:
        """Write samples and an export."""

    def before_step(self) -> None:  # noqa: B027 -- there may be nothing
        """Run before each step."""

    def mask_gradients(self) -> None:  # noqa: B027
        """Clear gradients that this step must not apply."""

    def after_restore(self) -> None:  # noqa: B027
        """Recompute what depends on weights that were just loaded."""

    def run_to_end(self, save_every: float, progress: Callable[[TrainingProgress], None] | None) -> None:
        """Resume the run, make the remaining steps, and let go of the other processes.

        :raises TrainingError: if the checkpoint cannot be read, or a loss is no longer finite
        :raises OutputError: if something cannot be written; the previous checkpoint is kept
        """
        with self.distributed:
            self.resume()
            self.train(save_every, progress)

    def resume(self) -> None:
        """Restore the last checkpoint, if there is one."""
        saved = self.run.load(self.distributed.device)
        if saved is None:
            return
        self._module.load_state_dict(saved["model"])
        self.after_restore()
        self._optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]

    def train(self, save_every: float, progress: Callable[[TrainingProgress], None] | None) -> None:
        """Run the remaining steps.

        :raises TrainingError: if a loss is no longer finite
        :raises OutputError: if something cannot be written; the previous checkpoint is kept
        """
        steps = self._settings.steps
        tenth = max(1, steps // 10)
        saved_at = logged_at = time.monotonic()
        with defer_interrupts() as check:
            while self.step < steps:
                self._make_step()
                last = self.step == steps
                if self.step % LOG_EVERY == 0 or last:
                    now = time.monotonic()
                    report = self._logged(now - logged_at)
                    logged_at = now
                    if progress and self.distributed.is_main:
                        progress(report)
                if (self.step % tenth == 0 or last) and self.distributed.is_main:
                    trim()  # what gradients leave behind is in pieces that a file of weights does not fit into
                    self.write_outputs()
                    self.run.plot()
                interrupted = self.distributed.any(here=check())
                if last or interrupted or time.monotonic() - saved_at > save_every:
                    self._save()
                    saved_at = time.monotonic()
                if interrupted:
                    raise KeyboardInterrupt

    def autocast(self) -> torch.autocast:
        """Return the autocast context of a forward pass."""
        narrow = self._settings.precision == "bfloat16"
        return torch.autocast(self.distributed.device.type, torch.bfloat16, enabled=narrow)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Return an array on the device."""
        return torch.tensor(array, device=self.distributed.device)

    def generator(self) -> torch.Generator:
        """Return this step's random number generator."""
        return torch.Generator().manual_seed(self._settings.seed * 2**32 + self.step)

    def _make_step(self) -> None:
        self.before_step()
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        losses: dict[str, Tensor] = {}
        for part in range(self.parts):
            last = part + 1 == self.parts
            with nullcontext() if last else self.distributed.keep_gradients(self.forward):
                for name, value in self._backward(part).items():
                    losses[name] = losses.get(name, torch.zeros_like(value)) + value / self.parts
        norms = {
            f"gradient_{name}": torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            for name, parameters in self.parameter_groups().items()
        }
        self.mask_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)  # what follows needs the memory, and not them
        self.step += 1
        for name, value in {**losses, **norms}.items():
            self._sums[name] += float(value)
        self._sums["count"] += 1

    def _backward(self, part: int) -> dict[str, Tensor]:
        """Add up the gradients of one of the step's batches, and return its losses, of all processes."""
        with self.autocast():
            losses = self.losses(part)
        means = self.distributed.mean(losses)
        if not bool(torch.isfinite(means["total"])):
            raise TrainingError(
                f"the loss is no longer finite at step {self.step}; it would be so again: "
                "start anew in another folder, with a smaller --learning-rate"
            )
        cast("Any", losses["total"] / self.parts).backward()
        return means

    def _logged(self, seconds: float) -> TrainingProgress:
        count = self._sums.pop("count")
        losses = {name: value / count for name, value in self._sums.items()}
        self._sums.clear()
        if self.step % VALIDATE_EVERY == 0 or self.step == self._settings.steps:
            self._module.eval()
            with torch.no_grad():
                losses |= {f"validation_{name}": value for name, value in self.validate().items()}
            self._module.train()
        self.run.log(self.step, losses)
        return TrainingProgress(
            step=self.step, steps=self._settings.steps, speed=count * self._seconds / seconds, losses=losses
        )

    def _save(self) -> None:
        if self.distributed.is_main:
            self.run.save(
                {"step": self.step, "model": self._module.state_dict(), "optimizer": self._optimizer.state_dict()}
            )
