"""Causal convolutions that stream: a chunk at a time gives what the whole recording gives.

All of them are products of windows and weights, with the channels last: every sample's channels lie side by side, so
windows are copied in rows and nothing is transposed.
"""

import mlx.core as mx

from duplex.backends.mlx.arrays import evaluate, shaped, taken
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.state import Call, StateSpec, Streaming

__all__ = ["CausalConv1d", "CausalConvTranspose1d"]


class Weights(Module):
    """A convolution's weights at their place in published files; :meth:`take` hands them out once they are loaded."""

    def __init__(self, shape: tuple[int, ...], out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight: mx.array = mx.zeros(shape)
        if bias:
            self.bias: mx.array = mx.zeros(out)

    def take(self) -> tuple[mx.array, mx.array | None]:
        """Return weight and bias, and keep them no longer."""
        return taken(self, "weight"), taken(self, "bias") if "bias" in self else None


class CausalConv1d(Streaming):
    """A convolution that sees the past only: ``[batch, n * stride, channels]`` to ``[batch, n, out]``.

    The past of a new stream is silence, or, with ``replicate``, its first sample held (the published downsampling).
    The weights are loaded at ``conv.conv``, their place in published files. The kernel is a multiple of the stride.
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
        self.conv: dict[str, Weights] = {"conv": Weights((out, channels, kernel), out, bias=bias)}
        self.channels = channels
        self.kernel = kernel
        self.stride = stride
        self.dilation = dilation
        self.past: int = (kernel - 1) * dilation + 1 - stride
        self.replicate = replicate

    def prepare(self) -> None:
        """Turn the loaded weights into the matrix ``[kernel * channels, out]`` that windows are multiplied by."""
        weight, bias = self.conv["conv"].take()
        self._matrix = mx.contiguous(shaped(mx.transpose(weight, (2, 1, 0)), -1, weight.shape[0]))
        self._bias = bias
        evaluate(self._matrix)

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the arrays to remember: the input's last samples, and whether there were any."""
        declared = {"previous": StateSpec((self.past, self.channels))} if self.past else {}
        if self.replicate:
            declared["started"] = StateSpec((), mx.bool_)
        return declared

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Convolve the next ``n * stride`` positions."""
        if self.past:
            x = self._after_past(x, call)
            call.write(f"{self.key}.previous", x[:, -self.past :])
        windows = self._im2col(x)
        return windows @ self._matrix if self._bias is None else mx.addmm(self._bias, windows, self._matrix)

    def _im2col(self, x: mx.array) -> mx.array:
        """Return what each output sees, ``[batch, n, kernel * channels]``."""
        if self.kernel == 1:
            return x
        x = shaped(x, len(x), -1, self.stride * self.channels)
        taps, apart = self.kernel // self.stride, self.dilation
        count = x.shape[1] - (taps - 1) * apart
        return mx.concatenate([x[:, tap * apart : tap * apart + count] for tap in range(taps)], axis=-1)

    def _after_past(self, x: mx.array, call: Call) -> mx.array:
        previous = call.read(f"{self.key}.previous")
        if self.replicate:
            started = call.read(f"{self.key}.started")
            previous = mx.where(started[:, None, None], previous, x[:, :1])
            call.write(f"{self.key}.started", mx.ones_like(started))
        return mx.concatenate([previous, x], axis=1)


class CausalConvTranspose1d(Streaming):
    """A transposed convolution: ``[batch, n, channels]`` to ``[batch, n * stride, out]``.

    Its kernel is twice its stride, as everywhere in Mimi: what comes out at a position is made of that position, by the
    kernel's first half, and of the one before, by the second. With ``separate``, each channel is on its own. The
    weights are loaded at ``convtr.convtr``, their place in published files.
    """

    def __init__(self, channels: int, out: int, stride: int, *, separate: bool = False, bias: bool = True) -> None:
        super().__init__()
        shape = (channels, 1 if separate else out, 2 * stride)
        self.convtr: dict[str, Weights] = {"convtr": Weights(shape, out, bias=bias)}
        self.stride = stride
        self.separate = separate
        self.channels = channels
        self.out = out

    def prepare(self) -> None:
        """Turn the loaded weights into what positions, and the ones before them, are multiplied by."""
        weight, bias = self.convtr["convtr"].take()
        taps = mx.transpose(weight, (0, 2, 1))  # [channels, 2 * stride, out], or out = 1
        if self.separate:
            taps = taps[:, :, 0].T
            self._now, self._before = taps[: self.stride], taps[self.stride :]
        else:
            halves = taps[:, : self.stride], taps[:, self.stride :]
            self._now, self._before = (mx.contiguous(shaped(half, self.channels, -1)) for half in halves)
        self._bias = None if bias is None else mx.tile(bias, self.stride)
        evaluate(self._now, self._before, self._bias)

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the array to remember: the input's last position."""
        return {"previous": StateSpec((1, self.channels))}

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Upsample the next ``n`` positions."""
        before = mx.concatenate([call.read(f"{self.key}.previous"), x[:, :-1]], axis=1)
        call.write(f"{self.key}.previous", x[:, -1:])
        if self.separate:
            y = x[:, :, None] * self._now + before[:, :, None] * self._before
        else:
            y = x @ self._now + before @ self._before
        y = shaped(y, len(x), -1, self.stride * self.out)
        return shaped(y if self._bias is None else y + self._bias, len(x), -1, self.out)
