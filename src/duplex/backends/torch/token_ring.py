"""A step's reads and writes of the ring of delayed tokens (:mod:`duplex.backends.shared.delays`)."""

from typing import Protocol

import attrs
import torch
from torch import Tensor

from duplex.backends.torch import kernels
from duplex.backends.torch.state import Call

__all__ = ["Delays", "TokenRing", "token_ring"]


@attrs.frozen(eq=False)
class Delays:
    """How the streams of a model are delayed, on its device."""

    delays: Tensor
    """int64 ``[streams]``"""
    initial: Tensor
    """What a stream reads before its beginning, int64 ``[streams]``."""
    longest: int
    """The longest delay, at least 1."""
    length: int
    """Indices that the ring holds."""


class TokenRing(Protocol):
    """One step of some rows."""

    def begin(self, user: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take the user's codes, int64 ``[batch, user_streams]``, the last streams; ``None`` in the initial step.

        Returns what the step reads, int64 ``[batch, streams]``, and its number, int64 ``[batch]``.
        """
        ...

    def complete(self, chosen: Tensor) -> Tensor:
        """Take what was chosen for the first streams, int64 ``[batch, n]``, and count the step.

        Returns the tokens of the time step that it completed, int64 ``[batch, streams]``.
        """
        ...


def token_ring(call: Call, key: str, delays: Delays) -> TokenRing:
    """Return the ring whose state is ``<key>.tokens`` and ``<key>.step``."""
    assert call.state is not None
    tokens, step = call.state.tensors[f"{key}.tokens"], call.state.tensors[f"{key}.step"]
    if kernels.apply_to(tokens):
        slots = call.slots(len(tokens), tokens.device)
        return _FusedRing(tokens, step, slots, delays)
    return _PlainRing(call, key, delays)


@attrs.frozen(eq=False)
class _FusedRing:
    tokens: Tensor
    step: Tensor
    slots: Tensor
    delays: Delays

    def begin(self, user: Tensor | None) -> tuple[Tensor, Tensor]:
        from duplex.backends.torch.kernels import token_ring as kernels  # noqa: PLC0415 -- needs Triton

        return kernels.begin(self.tokens, self.step, self.slots, self.delays.delays, self.delays.initial, user)

    def complete(self, chosen: Tensor) -> Tensor:
        from duplex.backends.torch.kernels import token_ring as kernels  # noqa: PLC0415 -- needs Triton

        place = (self.tokens, self.step, self.slots, self.delays.delays)
        return kernels.complete(*place, chosen.contiguous(), self.delays.longest)


class _PlainRing:
    def __init__(self, call: Call, key: str, delays: Delays) -> None:
        self._call, self._key, self._delays = call, key, delays
        tokens, step = call.read(f"{key}.tokens"), call.read(f"{key}.step")
        assert tokens is not None
        assert step is not None
        self._tokens, self._step = tokens.clone(), step.clone()

    def begin(self, user: Tensor | None) -> tuple[Tensor, Tensor]:
        step, delays = self._step, self._delays.delays
        if user is not None:
            heard = slice(self._tokens.shape[1] - user.shape[1], None)
            self._write(heard, step[:, None] - 1 + delays[heard], user)
        index = ((step - 1) % self._delays.length).view(-1, 1, 1).expand(-1, self._tokens.shape[1], 1)
        held = self._tokens.gather(2, index)[..., 0]
        return torch.where(step[:, None] <= delays, self._delays.initial, held), step

    def complete(self, chosen: Tensor) -> Tensor:
        self._write(slice(chosen.shape[1]), self._step[:, None].expand_as(chosen), chosen)
        self._call.write(f"{self._key}.tokens", self._tokens)
        self._call.advance(f"{self._key}.step", 1)
        index = (self._step[:, None] - self._delays.longest + self._delays.delays) % self._delays.length
        return self._tokens.gather(2, index[..., None])[..., 0]

    def _write(self, streams: slice, index: Tensor, tokens: Tensor) -> None:
        """Put ``tokens`` ``[batch, n]`` at ``index`` ``[batch, n]`` of the delayed sequences."""
        self._tokens[:, streams].scatter_(2, (index % self._delays.length)[..., None], tokens[..., None])
