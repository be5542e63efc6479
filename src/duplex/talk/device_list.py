"""The list of devices that lies over a call's screen."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from duplex.parsing import plain
from duplex.talk.line import Device
from duplex.transports import AudioDevice

__all__ = ["DeviceList"]


class DeviceList(ModalScreen[tuple[Device, Device] | None]):
    """Gives the input and the output to go on with, None if nothing was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back"),
        Binding("d", "leave", show=False),
        Binding("q", "leave", show=False),
    ]

    def __init__(self, devices: Sequence[AudioDevice], chosen: tuple[Device, Device]) -> None:
        super().__init__()
        self._choices: list[tuple[Device, Device]] = []
        self._options: list[Option] = []
        input_device, output_device = chosen
        for device in devices:
            if device.inputs:
                self._add("microphone", device, (device.index, output_device))
            if device.outputs:
                self._add("loudspeaker", device, (input_device, device.index))

    def compose(self) -> ComposeResult:
        """Lay the list out."""
        yield OptionList(*self._options)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give what was chosen."""
        self.dismiss(self._choices[event.option_index])

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)

    def _add(self, kind: str, device: AudioDevice, choice: tuple[Device, Device]) -> None:
        self._choices.append(choice)
        self._options.append(Option(Text(plain(f"{kind} {device.index}: {device.name}"))))
