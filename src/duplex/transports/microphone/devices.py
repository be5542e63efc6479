"""Audio devices: what there is, and which is meant by a number or a part of a name."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import attrs

from duplex.errors import AudioDeviceError

__all__ = ["AudioDevice", "Direction", "choose_device", "describe_devices"]

Direction: TypeAlias = Literal["input", "output"]


@attrs.frozen(kw_only=True)
class AudioDevice:
    """A device, or several under one name: a headset has both inputs and outputs."""

    index: int
    """Its number in the list; it may be another after devices have come or gone."""
    name: str
    """The sound server's own name for it, or the system's."""
    inputs: int
    """Channels of its microphone, 0 without one."""
    outputs: int
    """Channels of its loudspeaker, 0 without one."""
    sample_rate: float
    """Its native rate in hertz."""
    is_default_input: bool = False
    is_default_output: bool = False
    server_name: str = ""
    """What the sound server calls it in commands; empty for a device that is opened without a sound server."""
    is_monitor: bool = False
    """Whether it gives what a loudspeaker plays: it is an input only for those who name it."""

    def serves(self, direction: Direction) -> bool:
        """Whether it has channels of a direction."""
        return bool(self.inputs if direction == "input" else self.outputs)

    def is_default(self, direction: Direction) -> bool:
        """Whether the system takes it where none is named."""
        return self.is_default_input if direction == "input" else self.is_default_output


def choose_device(devices: Sequence[AudioDevice], wanted: int | str | None, direction: Direction) -> AudioDevice:
    """Return the device with a number, the first with a part of a name (in any case), or the default.

    :raises AudioDeviceError: if there is none; the message has the list
    """
    fitting = [device for device in devices if device.serves(direction)]
    plain = [device for device in fitting if not device.is_monitor]
    if not (plain if wanted is None else fitting):
        kind = "microphone" if direction == "input" else "loudspeaker"
        raise AudioDeviceError(
            f"there is no {kind} here; connect one, or start the sound server (Linux: PulseAudio or PipeWire, reached "
            "through Debian's libasound2-plugins)"
        )
    if wanted is None:
        return next((device for device in plain if device.is_default(direction)), plain[0])
    exact = [device for device in fitting if wanted in {device.index, device.name, device.server_name}]
    parts = [device for device in fitting if isinstance(wanted, str) and _is_part(wanted, device)]
    if not exact and not parts:
        raise AudioDeviceError(f"there is no {direction} device {wanted!r}; there are: {describe_devices(fitting)}")
    return (exact or parts)[0]


def describe_devices(devices: Sequence[AudioDevice]) -> str:
    """Return the devices' numbers and names in one line."""
    return ", ".join(f"{device.index} ({device.name})" for device in devices)


def _is_part(wanted: str, device: AudioDevice) -> bool:
    return any(wanted.casefold() in name.casefold() for name in (device.name, device.server_name))
