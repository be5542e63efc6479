"""Causal convolutions that stream: a chunk at a time gives what the whole recording gives."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.state import Call, Declared, Streaming

__all__ = ["CausalConv1d", "CausalConvTranspose1d"]

FEW = 16
"""Up to so many positions a convolution is a product of its windows and its weights: reading the weights is all that
it costs, and PyTorch's convolutions read them twice as slowly."""


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
        self.layer: list[nn.Conv1d] = [convolution]  # typed, and not registered twice
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
        return self._convolved(x)

    def _convolved(self, x: Tensor) -> Tensor:
        layer = self.layer[0]
        size, step = layer.kernel_size[0], layer.stride[0]
        if layer.dilation[0] > 1 or (x.shape[-1] - size) // step >= FEW:
            return layer(x)
        windows = x.unfold(-1, size, step).transpose(1, 2).flatten(2)
        return functional.linear(windows, layer.weight.flatten(1), layer.bias).transpose(1, 2)

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

    Its kernel is twice its stride, as everywhere in Mimi: the second half of what a position makes is added to the
    first half of what the next one makes, in the next chunk if it is the last. With ``separate``, each channel is on
    its own. The weights lie at ``convtr.convtr``, their place in published files.
    """

    def __init__(self, channels: int, out: int, stride: int, *, separate: bool = False, bias: bool = True) -> None:
        super().__init__()
        groups = channels if separate else 1
        convolution = nn.ConvTranspose1d(channels, out, 2 * stride, stride=stride, groups=groups, bias=bias)
        self.convtr = nn.ModuleDict({"convtr": convolution})
        self.layer: list[nn.ConvTranspose1d] = [convolution]  # typed, and not registered twice
        self.stride = stride
        self.separate = separate
        self.out = out

    def declare(self, frames_per_call: int) -> dict[str, Declared]:
        """Return the tensor to remember: the spill, without the bias."""
        return {"partial": Declared((self.out, self.stride))}

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Upsample the next ``n`` positions."""
        made = self._halves(x)
        first, second = made[..., : self.stride], made[..., self.stride :]
        partial = call.recall(f"{self.key}.partial")
        before = torch.zeros_like(second[:, :, 0]) if partial is None else partial
        y = first + torch.cat([before[:, :, None].to(second.dtype), second[:, :, :-1]], dim=2)
        call.keep(f"{self.key}.partial", second[:, :, -1])
        bias = self.layer[0].bias
        return (y if bias is None else y + bias[:, None, None].to(y.dtype)).flatten(2)

    def _halves(self, x: Tensor) -> Tensor:
        """Return what each position makes, ``[batch, out, n, 2 * stride]``."""
        weight = self.layer[0].weight
        if self.separate:
            return x[..., None] * weight
        made = torch.matmul(x.transpose(1, 2), weight.flatten(1))
        return made.view(len(x), x.shape[2], *weight.shape[1:]).transpose(1, 2)
