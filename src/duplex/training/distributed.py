"""Data-parallel training on a CPU, a CUDA device, or several, one process each, as ``torchrun`` starts them."""

import os
from types import TracebackType
from typing import Any, Self

import attrs
import torch
import torch.distributed
from torch import nn

from duplex.errors import UsageError

__all__ = ["DistributedContext"]


@attrs.frozen
class DistributedContext:
    """This process's device, its rank, and the number of processes that train together."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @classmethod
    def setup(cls, device: str) -> "DistributedContext":
        """Select the device; under ``torchrun``, join the process group.

        :raises UsageError: if there is no such device
        """
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        try:
            chosen = torch.device(("cuda" if cuda else "cpu") if device == "auto" else device)
        except RuntimeError:
            raise UsageError(f"the device is '{device}'; give cpu, cuda or cuda:N") from None
        if chosen.type not in ("cpu", "cuda"):
            raise UsageError(f"the device is '{device}'; training runs on cpu and cuda")
        if chosen.type == "cuda" and not cuda:
            raise UsageError(f"the device is '{device}', but PyTorch finds no CUDA here; give --device cpu")
        if world_size == 1:
            return cls(chosen)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(chosen)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(chosen, torch.distributed.get_rank(), world_size)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the files (rank 0)."""
        return self.rank == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the process group."""
        if self.world_size > 1:
            torch.distributed.destroy_process_group()

    def average_gradients(self, module: nn.Module) -> None:
        """Average a module's gradients over all processes (all-reduce)."""
        if self.world_size == 1:
            return
        distributed: Any = torch.distributed  # its annotations are incomplete
        for parameter in module.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world_size
