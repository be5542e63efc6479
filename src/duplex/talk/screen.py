"""A call on a terminal: two lanes over time, the agent's words, meters, and keys."""

import signal
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import anyio
import anyio.to_thread
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from duplex.parsing import plain
from duplex.talk import drawing
from duplex.talk.call import Call
from duplex.talk.device_list import DeviceList
from duplex.talk.line import Device
from duplex.talk.terminal import Interrupts, kept_terminal, quiet_errors
from duplex.transports import AudioDevice

__all__ = ["TalkScreen", "show_screen"]

REFRESH_SECONDS = 0.1
SHOWN_NOTICES = 2
COLOURS = {"you": "cyan", "agent": "green"}


class TalkScreen(App[None]):
    """The screen of one call. ``devices`` lists what there is to choose from."""

    CSS: ClassVar[str] = """
    #title { height: 1; text-style: bold; }
    #lanes { height: 3; }
    #words { height: 1fr; border: none; }
    #meters { height: auto; }
    #notices { height: auto; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mute", "mute"),
        Binding("d", "devices", "devices"),
        Binding("r", "record", "record"),
        Binding("q", "leave", "quit"),
        Binding("ctrl+q", "leave", show=False, priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(
        self, call: Call, *, hints: Sequence[str] = (), devices: Callable[[], Sequence[AudioDevice]] = list
    ) -> None:
        super().__init__()
        self.call = call
        self.interrupts: Interrupts = Interrupts(call.quit)
        self.shown: anyio.Event = anyio.Event()
        self.failure: Exception | None = None
        self._hints = hints
        self._devices = devices
        self._last_words = ""

    def compose(self) -> ComposeResult:
        """Lay the screen out, from the top."""
        yield Static(id="title")
        yield Static(id="lanes")
        with VerticalScroll(id="words"):
            yield Static(id="said")
        yield Static(id="meters")
        yield Static(id="notices")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to show."""
        self.set_interval(REFRESH_SECONDS, self.show)
        self.show()
        self.shown.set()

    def show(self) -> None:
        """Show the call as it is now."""
        if len(self.screen_stack) > 1:  # the list of devices is above
            return
        width = max(self.size.width, 1)
        self.query_one("#title", Static).update(_clipped(self._title(), width))
        self.query_one("#lanes", Static).update(self._lanes(width))
        self._show_words()
        self.query_one("#meters", Static).update(self._meters(width))
        self.query_one("#notices", Static).update(Text("\n".join(plain(line) for line in self._notices())))

    def action_mute(self) -> None:
        """Have the agent hear silence, or the microphone again."""
        self.call.toggle_mute()
        self.show()

    async def action_record(self) -> None:
        """Begin or complete a recording."""
        await self.call.toggle_recording()
        self.show()

    async def action_devices(self) -> None:
        """Let the user choose other devices, of those that there are now."""

        def chosen(choice: tuple[Device, Device] | None) -> None:
            if choice is not None:
                self.run_worker(self.call.choose(*choice))

        devices = await anyio.to_thread.run_sync(self._devices)  # asks the sound server, which may be slow
        self.push_screen(DeviceList(devices, self.call.line.chosen), chosen)

    def action_leave(self) -> None:
        """End the call."""
        self.call.quit()

    def action_interrupt(self) -> None:
        """End the call by Ctrl-C, which a terminal in raw mode gives as a key; the second time at once."""
        if self.interrupts.signal is None:
            self.interrupts.take(signal.SIGINT)
        else:
            self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Leave the screen, and have the command tell the error as any other."""
        self.failure = self.failure or error
        self.exit()

    def _title(self) -> str:
        call = self.call
        parts = [call.state.model or "connecting", drawing.clock(call.state.at), drawing.speaking(call.state)]
        if call.line.muted:
            parts.append("MUTED")
        if call.recorder.folder is not None:
            parts.append("RECORDING")
        return plain("  ".join(parts))

    def _lanes(self, width: int) -> Text:
        state = self.call.state
        user, agent, axis = drawing.lanes(list(state.lanes)[-3 * width :], state.at, state.frame_duration, width)
        return Text.assemble((user, COLOURS["you"]), "\n", (agent, COLOURS["agent"]), "\n", axis, no_wrap=True)

    def _show_words(self) -> None:
        lines = [(drawing.utterance_line(said), COLOURS[said.speaker]) for said in self.call.state.utterances]
        text = Text("\n").join([*(Text(hint) for hint in self._hints), *(Text(line, style) for line, style in lines)])
        if text.plain != self._last_words:
            self._last_words = text.plain
            self.query_one("#said", Static).update(text)
            self.query_one("#words", VerticalScroll).scroll_end(animate=False)

    def _meters(self, width: int) -> Text:
        stats, call = self.call.line.stats, self.call
        lines = drawing.meters(stats, width, muted=call.line.muted)
        return Text("\n".join([*lines, drawing.numbers(call.state, stats)]))

    def _notices(self) -> list[str]:
        return list(self.call.notices)[-SHOWN_NOTICES:]


async def show_screen(
    call: Call, *, hints: Sequence[str], devices: Callable[[], Sequence[AudioDevice]], record: bool, **options: Any
) -> int:
    """Hold a call on the terminal; return the exit status. ``options`` are those of ``App.run_async``."""
    app = TalkScreen(call, hints=hints, devices=devices)

    async def talk() -> None:
        await app.shown.wait()
        await call.run(record=record)
        app.exit()

    with quiet_errors(), kept_terminal(), app.interrupts.handled():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            try:
                await app.run_async(**options)
            finally:
                call.quit()
                app.shown.set()
    if app.failure is not None:
        raise app.failure
    return app.interrupts.status


def _clipped(text: str, width: int) -> Text:
    return Text(text[:width], no_wrap=True)
