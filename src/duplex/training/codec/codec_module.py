"""What the modules of the two trainings of a codec have in common."""

from abc import abstractmethod

from torch import nn

from duplex.backends.torch.mimi import Mimi

__all__ = ["CodecModule"]


class CodecModule(nn.Module):
    """A codec with losses."""

    mimi: Mimi

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by the losses that they learn from."""
