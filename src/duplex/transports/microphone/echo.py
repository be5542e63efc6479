"""Cancelling the loudspeaker's echo in the microphone: a small protocol, and WebRTC's canceller."""

from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.alignment import LEAD
from duplex.transports.microphone.takeover import TakeoverGate

__all__ = ["EchoCancellation", "EchoCanceller", "EchoMeter", "WebRtcProcessor"]

Float32 = NDArray[np.float32]

EchoCancellation: TypeAlias = Literal["webrtc", "off"]

_AUDIBLE = 10 ** (-50 / 10)
"""Power of the far end from which on there is echo to be measured: -50 dBFS."""
_METER_BLOCKS = 300
"""Blocks over which the echo's reduction is averaged: three seconds."""


class EchoCanceller(Protocol):
    """Takes the echo of what was played out of what was heard, in whole blocks of 10 ms."""

    def process(self, near: Float32, far: Float32) -> Float32:
        """Return ``near``, float32 ``[blocks * rate // 100]``, without the echo of ``far``, of that shape and time."""
        ...


class WebRtcProcessor:
    """The audio processing of WebRTC: AEC3, and if wanted noise suppression and gain control.

    The far end is given ``LEAD`` seconds early.

    :raises ImportError: if pywebrtc-audio is not installed
    """

    def __init__(
        self, rate: int, *, echo_cancellation: bool = True, noise_suppression: bool = True, gain_control: bool = True
    ) -> None:
        import pywebrtc_audio  # noqa: PLC0415 -- of the extra `talk`

        module = cast("Any", pywebrtc_audio)
        self._gate = TakeoverGate(rate, LEAD) if echo_cancellation else None
        self._has_gain = gain_control
        self._processor = module.AudioProcessor(
            rate,
            1,
            echo_cancellation=echo_cancellation,
            noise_suppression=noise_suppression,
            high_pass_filter=True,
            auto_gain_control=gain_control,
            agc_max_gain_db=24.0,
        )

    def process(self, near: Float32, far: Float32) -> Float32:
        """Return the blocks without echo, float32 ``[blocks * rate // 100]``."""
        out = np.asarray(self._processor.process(near, far), np.float32)
        if self._gate is None:
            return out
        gain = 10 ** (self._processor.gain_db / 20) if self._has_gain else 1.0
        return self._gate.apply(near, far, out, gain)


class EchoMeter:
    """Measures by how many dB the canceller lowers what is heard while something is played (ERLE)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heard = self._left = 0.0
        self.reduction: float | None = None
        """None before anything was played."""

    def add(self, near: Float32, far: Float32, left: Float32) -> None:
        """Count blocks of ``size``: what was heard, what was played, and what is left of the first."""
        heard, played, remains = (np.square(each.reshape(-1, self._size)).sum(axis=1) for each in (near, far, left))
        audible = played >= _AUDIBLE * self._size
        if not audible.any():
            return
        keep = (1 - 1 / _METER_BLOCKS) ** int(audible.sum())
        self._heard = self._heard * keep + float(heard[audible].sum())
        self._left = self._left * keep + float(remains[audible].sum())
        if self._heard > 0:
            self.reduction = float(np.clip(10 * np.log10(self._heard / max(self._left, 1e-12)), 0.0, 80.0))
