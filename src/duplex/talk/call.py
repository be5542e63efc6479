"""A call: the conversation, the line, the recordings and what is known of them, whatever shows it."""

import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import anyio

from duplex.conversation.dialogue import Dialogue
from duplex.errors import AudioDeviceError, OutputError
from duplex.events import Event
from duplex.talk.line import Device, TalkLine
from duplex.talk.recording import Recorder
from duplex.talk.state import CallState

__all__ = ["Call", "OpenDialogue"]

LAST_SECONDS = 2.0
"""That a conversation may take to end when it is asked to."""
KEPT_NOTICES = 50

OpenDialogue: TypeAlias = "Callable[[Call], Dialogue]"
"""Makes the conversation of a call, local or remote, on its line."""


class Call:
    """One call. ``changed`` is called after each event, ``noticed`` with each line for the user."""

    def __init__(self, open_dialogue: OpenDialogue, line: TalkLine, recorder: Recorder) -> None:
        self.line = line
        self.recorder = recorder
        self.state: CallState = CallState()
        self.notices: deque[str] = deque(maxlen=KEPT_NOTICES)
        self.changed: Callable[[Event], None] | None = None
        self.noticed: Callable[[str], None] | None = None
        self.error: Exception | None = None
        self._open = open_dialogue
        self._scope: anyio.CancelScope | None = None

    async def run(self, *, record: bool = False) -> None:
        """Hold the conversation until it ends, or :meth:`quit`; what went wrong is ``error`` then."""
        try:
            if record:
                await self.recorder.start()
            with anyio.CancelScope() as self._scope:
                await self._converse()
        except Exception as error:  # noqa: BLE001 -- told when the terminal is as it was before
            self.error = error
        finally:
            self.state.end()
            await self._finish_recording()

    def quit(self) -> None:
        """End the conversation: what the agent was saying is heard for a moment more."""
        self.line.end()
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, anyio.current_time() + LAST_SECONDS)

    def notice(self, text: str) -> None:
        """Tell the user one line."""
        self.notices.append(text)
        if self.noticed is not None:
            self.noticed(text)

    def queued(self, place: int) -> None:
        """Tell the place in a server's queue."""
        self.notice(f"all places of the server are taken: number {place} in the queue")

    def toggle_mute(self) -> None:
        """Have the agent hear silence, or the microphone again."""
        self.line.muted = not self.line.muted

    async def toggle_recording(self) -> None:
        """Begin a recording, or complete the one that goes on; nothing once the call has ended."""
        if self.state.ended:
            return
        try:
            if self.recorder.folder is None:
                self.notice(f"recording to {await self.recorder.start()}")
            else:
                self.notice(f"recorded: {await self.recorder.stop()}")
        except OutputError as error:
            self.notice(f"no recording: {error}")

    async def choose(self, input_device: Device, output_device: Device) -> None:
        """Go on with other devices."""
        try:
            await self.line.choose(input_device, output_device)
        except AudioDeviceError as error:
            self.notice(str(error))

    async def _converse(self) -> None:
        async with self._open(self) as dialogue:
            async for event in dialogue:
                self.state.feed(event, time.monotonic(), self.line.stats.input_level)
                self.recorder.event(event)
                try:
                    await self.recorder.write()
                except OutputError as error:
                    self.notice(f"the recording has ended: {error}")
                if self.changed is not None:
                    self.changed(event)

    async def _finish_recording(self) -> None:
        try:
            await self.recorder.stop()
        except OutputError as error:
            self.error = self.error or error
