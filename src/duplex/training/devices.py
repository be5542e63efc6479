"""Where training runs: a CPU, a CUDA device, or several, one process each, as ``torchrun`` starts them."""

import os
from types import TracebackType
from typing import Any, Self

import attrs
import torch
import torch.distributed
from torch import nn

from duplex.errors import UsageError

__all__ = ["Place"]


@attrs.frozen
class Place:
    """This process's device, and its number among the processes that train together."""

    device: torch.device
    rank: int = 0
    processes: int = 1

    @classmethod
    def choose(cls, device: str) -> "Place":
        """Return where to train; under ``torchrun``, join the other processes.

        :raises UsageError: if there is no such device
        """
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        try:
            chosen = torch.device(("cuda" if cuda else "cpu") if device == "auto" else device)
        except RuntimeError:
            raise UsageError(f"the device is '{device}'; give cpu, cuda or cuda:N") from None
        if chosen.type not in ("cpu", "cuda"):
            raise UsageError(f"the device is '{device}'; training runs on cpu and cuda")
        if chosen.type == "cuda" and not cuda:
            raise UsageError(f"the device is '{device}', but PyTorch finds no CUDA here; give --device cpu")
        if processes == 1:
            return cls(chosen)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(chosen)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(chosen, torch.distributed.get_rank(), processes)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the other processes."""
        if self.processes > 1:
            torch.distributed.destroy_process_group()

    def average(self, module: nn.Module) -> None:
        """Make the gradients of a module the mean of those of all processes."""
        if self.processes == 1:
            return
        distributed: Any = torch.distributed  # its annotations are incomplete
        for parameter in module.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.processes
