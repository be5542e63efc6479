"""Causal convolutions that stream: a chunk at a time gives what the whole recording gives.

All of them are products of windows and weights, with the channels last: every sample's channels lie side by side, so
windows are copied in rows and nothing is transposed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.linear import Weight, linear
from duplex.backends.torch.state import Call, StateSpec, Streaming

__all__ = ["CausalConv1d", "CausalConvTranspose1d"]


class CausalConv1d(Streaming):
    """A convolution that sees the past only: ``[batch, n * stride, channels]`` to ``[batch, n, out]``.

    The past of a new stream is silence, or, with ``replicate``, its first sample held (the published downsampling).
    The weights lie at ``conv.conv``, their place in published files. The kernel is a multiple of the stride.
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
        assert kernel % stride == 0, "windows are made of whole strides"
        assert stride == 1 or dilation == 1, "either strides or dilates"
        convolution = nn.Conv1d(channels, out, kernel, stride=stride, dilation=dilation, bias=bias)
        self.conv: nn.ModuleDict = nn.ModuleDict({"conv": convolution})
        self.layer: list[nn.Conv1d] = [convolution]  # typed, and not registered twice
        self.narrows: bool = stride == 1 and kernel > 1 and out < channels
        """Whether its windows are larger than what it makes of them, and moving memory costs more than adding."""
        self.packed: Weight | None = None
        """:attr:`matrix`, once it has been packed."""
        self.past: int = (kernel - 1) * dilation + 1 - stride
        self.channels = channels
        self.replicate = replicate

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the tensors to remember: the input's last samples, and whether there were any."""
        declared = {"previous": StateSpec((self.past, self.channels))} if self.past else {}
        if self.replicate:
            declared["started"] = StateSpec((), torch.bool)
        return declared

    @property
    def matrix(self) -> Weight:
        """The weight as a matrix ``[out, kernel * channels]``, or ``[kernel * out, channels]`` if it narrows."""
        if self.packed is not None:
            return self.packed
        weight: Tensor = self.layer[0].weight
        return weight.permute(2, 0, 1).flatten(0, 1) if self.narrows else weight.transpose(1, 2).flatten(1)

    def forward(self, x: Tensor, call: Call, *, activated: bool = False) -> Tensor:
        """Convolve the next ``n * stride`` positions, which go through an ELU first if they are to be ``activated``."""
        layer = self.layer[0]
        taps = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        if self.past and not self.replicate and not self.narrows and _kernel_applies(x, call):
            return linear(_im2col_by_kernel(x, call, self.key, taps, activated=activated), self.matrix, layer.bias)
        x = functional.elu(x) if activated else x
        if self.past:
            x = self._after_past(x, call)
            call.write(f"{self.key}.previous", x[:, -self.past :])
        if self.narrows:
            return self._summed(x)
        return linear(self._im2col(x), self.matrix, layer.bias)

    def _summed(self, x: Tensor) -> Tensor:
        """Multiply each position by all taps, and add up what belongs together: less to move than windows of inputs."""
        layer = self.layer[0]
        taps, apart, out = layer.kernel_size[0], layer.dilation[0], layer.out_channels
        count = x.shape[1] - (taps - 1) * apart
        products = linear(x, self.matrix)
        parts = [
            products[:, tap * apart : tap * apart + count, tap * out : (tap + 1) * out] for tap in reversed(range(taps))
        ]
        y = parts[0] if layer.bias is None else parts[0] + layer.bias
        for part in parts[1:]:
            y = y + part
        return y

    def _im2col(self, x: Tensor) -> Tensor:
        """Return what each output sees, ``[batch, n, kernel * channels]``."""
        layer = self.layer[0]
        size, step, apart = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        if size == 1:
            return x
        x = x.reshape(x.shape[0], -1, step * self.channels)
        count = x.shape[1] - (size // step - 1) * apart
        return torch.cat([x[:, start * apart : start * apart + count] for start in range(size // step)], dim=-1)

    def _after_past(self, x: Tensor, call: Call) -> Tensor:
        previous = call.read(f"{self.key}.previous")
        if not self.replicate:
            return functional.pad(x, (0, 0, self.past, 0)) if previous is None else torch.cat([previous, x], dim=1)
        first = x[:, :1].expand(-1, self.past, -1)
        started = call.read(f"{self.key}.started")
        if previous is None or started is None:
            return torch.cat([first, x], dim=1)
        previous = torch.where(started.view(-1, 1, 1), previous, first)
        call.write(f"{self.key}.started", torch.ones_like(started))
        return torch.cat([previous, x], dim=1)


class CausalConvTranspose1d(Streaming):
    """A transposed convolution: ``[batch, n, channels]`` to ``[batch, n * stride, out]``.

    Its kernel is twice its stride, as everywhere in Mimi: what comes out at a position is made of that position, by the
    kernel's first half, and of the one before, by the second. With ``separate``, each channel is on its own. The
    weights lie at ``convtr.convtr``, their place in published files.
    """

    def __init__(self, channels: int, out: int, stride: int, *, separate: bool = False, bias: bool = True) -> None:
        super().__init__()
        groups = channels if separate else 1
        convolution = nn.ConvTranspose1d(channels, out, 2 * stride, stride=stride, groups=groups, bias=bias)
        self.convtr: nn.ModuleDict = nn.ModuleDict({"convtr": convolution})
        self.layer: list[nn.ConvTranspose1d] = [convolution]  # typed, and not registered twice
        self.packed: Weight | None = None
        """:attr:`matrix`, once it has been packed."""
        self.shifts: Tensor | None = None
        """The bias of every output position, once it has been packed."""
        self.stride = stride
        self.separate = separate
        self.channels = channels
        self.out = out

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the tensor to remember: the input's last position."""
        return {"previous": StateSpec((1, self.channels))}

    @property
    def matrix(self) -> Weight:
        """The weight as a matrix ``[stride * out, 2 * channels]``: for the position before, and for the position."""
        if self.packed is not None:
            return self.packed
        weight: Tensor = self.layer[0].weight
        own, before = weight[:, :, : self.stride], weight[:, :, self.stride :]
        return torch.cat([before, own]).permute(2, 1, 0).flatten(0, 1)

    def forward(self, x: Tensor, call: Call, *, activated: bool = False) -> Tensor:
        """Upsample the next ``n`` positions, which go through an ELU first if they are to be ``activated``."""
        if not self.separate and _kernel_applies(x, call):
            return self._upsampled(_im2col_by_kernel(x, call, self.key, (2, 1, 1), activated=activated))
        x = functional.elu(x) if activated else x
        previous = call.read(f"{self.key}.previous")
        first = torch.zeros_like(x[:, :1]) if previous is None else previous
        before = torch.cat([first.to(x.dtype), x[:, :-1]], dim=1)
        call.write(f"{self.key}.previous", x[:, -1:])
        return self._separately(x, before) if self.separate else self._upsampled(torch.cat([before, x], dim=-1))

    def _upsampled(self, pairs: Tensor) -> Tensor:
        """Return ``[batch, n * stride, out]`` of positions beside those before them, ``[batch, n, 2 * channels]``."""
        layer = self.layer[0]
        shifts = self.shifts
        if shifts is None and layer.bias is not None:
            shifts = layer.bias.repeat(self.stride)
        return linear(pairs, self.matrix, shifts).view(pairs.shape[0], -1, self.out)

    def _separately(self, x: Tensor, before: Tensor) -> Tensor:
        layer = self.layer[0]
        weight = layer.weight[:, 0].T
        first, second = weight[: self.stride], weight[self.stride :]
        y = torch.addcmul(x[:, :, None] * first, before[:, :, None], second)
        return (y if layer.bias is None else y + layer.bias).flatten(1, 2)


def _kernel_applies(x: Tensor, call: Call) -> bool:
    return call.state is not None and kernels.apply_to(x)


def _im2col_by_kernel(x: Tensor, call: Call, key: str, taps: tuple[int, int, int], *, activated: bool) -> Tensor:
    """Return the windows of so many taps, a stride and a dilation, ``[batch, n, taps * channels]``, and remember."""
    from duplex.backends.torch.kernels.im2col import im2col  # noqa: PLC0415 -- needs Triton

    assert call.state is not None
    previous, (size, stride, dilation) = call.state.tensors[f"{key}.previous"], taps
    slots = call.slots(len(x), x.device)
    return im2col(x.contiguous(), previous, slots, taps=size, stride=stride, dilation=dilation, activated=activated)
