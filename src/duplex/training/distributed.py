"""Data-parallel training on a CPU, a CUDA device, or several, one process each, as ``torchrun`` starts them."""

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import attrs
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from duplex.errors import UsageError

__all__ = ["DistributedContext", "is_main_process"]


def is_main_process() -> bool:
    """Return whether this process speaks and writes: it is the only one, or the first that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


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

    def parallel(self, module: nn.Module, *, unused: bool) -> nn.Module:
        """Return a module whose gradients are averaged over all processes while they are computed.

        All processes get the weights of the first one. ``unused`` says that a step may leave parameters out; torch then
        looks for them each time.
        """
        if self.world_size == 1:
            return module
        # Of a convolution with one channel each order of the axes is the same, and no slower than another.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=unused,
            gradient_as_bucket_view=True,
        )

    @staticmethod
    def keep_gradients(module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients add up in each process, and are not averaged yet."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; no gradient passes."""
        summed = tensor.detach()
        if self.world_size > 1:
            summed = summed.clone()
            collectives: Any = torch.distributed  # its annotations are incomplete
            collectives.all_reduce(summed)
        return summed

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of single numbers over all processes."""
        told = {name: value.detach() for name, value in values.items()}
        if self.world_size == 1:
            return told
        means = self.sum(torch.stack([value.float() for value in told.values()])) / self.world_size
        return dict(zip(told, means, strict=True))

    def any(self, *, here: bool) -> bool:
        """Return whether something is true in any process."""
        return here if self.world_size == 1 else bool(self.sum(torch.tensor(float(here), device=self.device)))
