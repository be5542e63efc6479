"""Causal convolutions that stream: a chunk at a time gives what the whole recording gives."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.state import Call, Declared, Streaming

__all__ = ["CausalConv1d", "CausalConvTranspose1d"]


class CausalConv1d(Streaming):
    """A convolution that sees the past only: ``[batch, channels, n * stride]`` to ``[batch, out, n]``.

    The past of a new stream is silence, or, with ``replicate``, its first sample held (the published downsampling).
    The weights lie at ``conv.conv``, their place in published files.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        replicate: bool = False,
    ) -> None:
        super().__init__()
        convolution = nn.Conv1d(channels, out, kernel, stride=stride, dilation=dilation, bias=bias)
        self.conv = nn.ModuleDict({"conv": convolution})
        self.past = (kernel - 1) * dilation + 1 - stride
        self.channels = channels
        self.replicate = replicate

    def declare(self, frames_per_call: int) -> dict[str, Declared]:
        """Return the tensors to remember: the input's last samples, and whether there were any."""
        declared = {"previous": Declared((self.channels, self.past))} if self.past else {}
        if self.replicate:
            declared["started"] = Declared((), torch.bool)
        return declared

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Convolve the next ``n * stride`` positions."""
        if self.past:
            x = self._after_past(x, call)
            call.keep(f"{self.key}.previous", x[..., -self.past :])
        return self.conv["conv"](x)

    def _after_past(self, x: Tensor, call: Call) -> Tensor:
        previous = call.recall(f"{self.key}.previous")
        if not self.replicate:
            return functional.pad(x, (self.past, 0)) if previous is None else torch.cat([previous, x], dim=-1)
        first = x[..., :1].expand(-1, -1, self.past)
        started = call.recall(f"{self.key}.started")
        if previous is None or started is None:
            return torch.cat([first, x], dim=-1)
        previous = torch.where(started.view(-1, 1, 1), previous, first)
        call.keep(f"{self.key}.started", torch.ones_like(started))
        return torch.cat([previous, x], dim=-1)


class CausalConvTranspose1d(Streaming):
    """A transposed convolution by overlap and add: ``[batch, channels, n]`` to ``[batch, out, n * stride]``.

    What spills over the end of a chunk is remembered and added to the next one's beginning. The weights lie at
    ``convtr.convtr``, their place in published files.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        convolution = nn.ConvTranspose1d(channels, out, kernel, stride=stride, groups=groups, bias=bias)
        self.convtr = nn.ModuleDict({"convtr": convolution})
        self.layer: list[nn.ConvTranspose1d] = [convolution]  # typed, and not registered twice
        self.stride = stride
        self.groups = groups
        self.out = out
        self.overlap = kernel - stride

    def declare(self, frames_per_call: int) -> dict[str, Declared]:
        """Return the tensor to remember: the spill, without the bias."""
        return {"partial": Declared((self.out, self.overlap))} if self.overlap else {}

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Upsample the next ``n`` positions."""
        layer = self.layer[0]
        y = functional.conv_transpose1d(x, layer.weight, None, self.stride, groups=self.groups)
        if self.overlap:
            partial = call.recall(f"{self.key}.partial")
            if partial is not None:
                y[..., : self.overlap] += partial
            call.keep(f"{self.key}.partial", y[..., -self.overlap :])
            y = y[..., : -self.overlap]
        return y if layer.bias is None else y + layer.bias[:, None].to(y.dtype)
