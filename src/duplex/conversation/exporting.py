"""Exports of a conversation that are in progress."""

from collections.abc import Callable

import anyio
import attrs

from duplex.conversation.saved import SavedConversation
from duplex.errors import ClosedError

__all__ = ["Exports"]


@attrs.define(eq=False)
class _Export:
    done: anyio.Event = attrs.Factory(anyio.Event)
    result: SavedConversation | Exception | None = None
    halts: bool = False
    """Whether the conversation stands still from there on."""


class Exports:
    """The exports that were asked for, in order."""

    def __init__(self) -> None:
        self._asked: list[_Export] = []
        self._released: anyio.Event | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._asked)

    @property
    def halted(self) -> bool:
        """Whether the conversation stands still after an export."""
        return self._released is not None

    async def wait_released(self) -> None:
        """Wait until it does not."""
        while self._released is not None:
            await self._released.wait()

    def let_go_on(self) -> None:
        """Let the conversation go on."""
        released, self._released = self._released, None
        if released is not None:
            released.set()

    async def ask(self, begin: Callable[[], None], *, halt: bool = False) -> bytes:
        """Call ``begin``, which begins an export; return the conversation once it is there.

        Who gives up waiting with ``halt`` lets the conversation go on: it may stand still by then.

        :raises ClosedError: if the conversation ends before that
        """
        export = _Export(halts=halt)
        self._asked.append(export)
        try:
            begin()
        except BaseException:
            self._asked.remove(export)  # what was not begun has no answer, and would take the next one's
            raise
        try:
            await export.done.wait()
        except BaseException:
            export.halts = False  # the answer may come after go_on(), and then nobody would call that
            raise
        if isinstance(export.result, Exception):
            raise export.result
        if export.result is None:
            raise ClosedError("the conversation ended before it could be exported")
        return await anyio.to_thread.run_sync(export.result.to_bytes)

    def finish(self, result: SavedConversation | Exception) -> None:
        """Give the oldest its result."""
        export = self._asked.pop(0)
        export.result = result
        if export.halts and isinstance(result, SavedConversation):
            self._released = anyio.Event()
        export.done.set()

    def close(self) -> None:
        """Let nobody wait any longer."""
        for export in self._asked:
            export.done.set()
