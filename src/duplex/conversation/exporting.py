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


class Exports:
    """The exports that were asked for, in order."""

    def __init__(self) -> None:
        self._asked: list[_Export] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._asked)

    async def ask(self, begin: Callable[[], None]) -> bytes:
        """Call ``begin``, which begins an export; return the conversation once it is there.

        :raises ClosedError: if the conversation ends before that
        """
        export = _Export()
        self._asked.append(export)
        begin()
        await export.done.wait()
        if isinstance(export.result, Exception):
            raise export.result
        if export.result is None:
            raise ClosedError("the conversation ended before it could be exported")
        return await anyio.to_thread.run_sync(export.result.to_bytes)

    def finish(self, result: SavedConversation | Exception) -> None:
        """Give the oldest its result."""
        export = self._asked.pop(0)
        export.result = result
        export.done.set()

    def close(self) -> None:
        """Let nobody wait any longer."""
        for export in self._asked:
            export.done.set()
