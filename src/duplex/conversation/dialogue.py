"""The base of all conversations, local and remote: audio pushed in, events out, and how they begin and end."""

import warnings
from collections.abc import AsyncIterator
from os import PathLike
from types import TracebackType
from typing import Any, Self, cast

from anyio.lowlevel import checkpoint

from duplex.audio.pcm import AudioLike
from duplex.conversation.runner import Runner
from duplex.errors import ClosedError, UsageError
from duplex.events import Event
from duplex.parsing import shown
from duplex.transports.memory import MemoryTransport

__all__ = ["KEYS", "Dialogue", "check_transport"]

KEYS = tuple("0123456789*#ABCD")
"""Those of telephones."""


class Dialogue:
    """A conversation, wherever its model runs: an asynchronous context manager and iterator of events.

    It is a :class:`duplex.Conversation` on a model of this process, or a :class:`duplex.RemoteConversation` on that of
    a server; code that takes a ``Dialogue`` works with both. With a transport the user's audio comes from there and the
    agent's goes there. Without one, push audio with :meth:`send` and end it with :meth:`finish` from another task, or
    iterate over :meth:`run`. There is one consumer.

    ``SessionStarted`` is a session's first event. A normal end, a refusal by a server or a failure gives
    ``SessionEnded`` as the last event, exactly once; a refusal or failure then raises the original error from the
    iterator. A call that was refused has no session and no ``SessionStarted``. What is already known on entering
    is raised there, before any event. Leaving the block, ``break``, cancellation and :meth:`aclose` end the session at
    once, without a further event.

    It may be entered by one task and left by another, of the same event loop, so a fixture, a pair of start and stop
    hooks, or an asynchronous generator can hold it. One that is dropped without having been left gives its place back
    and emits a ``ResourceWarning``.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def __aenter__(self) -> Self:
        await self._runner.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.leave()

    async def aclose(self) -> None:
        """End the conversation at once, as leaving its block does, from any task of its event loop.

        Nothing happens if it has not been entered, or has been left.

        :raises UsageError: in another event loop while its own goes on, or if its own transport calls it
        """
        await self._runner.leave()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        runner = cast("Runner | None", getattr(self, "_runner", None))  # a constructor may have failed
        if runner is None or not runner.running:
            return
        left = runner.left
        runner.abandon()
        if not left:
            _warn(
                f"{type(self).__name__} was entered and never left; use it with async with, or call aclose()",
                ResourceWarning,
                source=self,
            )

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._runner.next_event()

    async def send(self, pcm: AudioLike) -> None:
        """Push the user's next audio, of any length.

        It is a float32, float64 or int16 array of shape ``[samples]``, or 16-bit little-endian samples as ``bytes``,
        ``bytearray`` or ``memoryview``, as telephone libraries give them. Floats are nominally between -1 and 1.

        Waits while more than a few seconds are pending, so send from another task than the one that iterates. When the
        conversation has failed, audio is discarded: the iterator raises the error, and no other task a second one.

        :raises UsageError: if the conversation has a transport of its own
        :raises AudioError: if the array cannot be used, or bytes end within a sample
        :raises ClosedError: if the conversation is over
        """
        pushed = self._pushing()
        try:
            await pushed.feed(pcm)
        except ClosedError:
            if not self._runner.failed:
                raise
            await checkpoint()

    async def finish(self) -> None:
        """End the pushed audio; the conversation ends when its last frame has been answered.

        :raises UsageError: if the conversation has a transport of its own
        """
        await self._pushing().end()

    def run(self, pcm: AudioLike) -> AsyncIterator[Event]:
        """Push a whole recording and iterate over the events: ``async for event in conversation.run(pcm)``.

        :raises UsageError: if the conversation has a transport of its own
        """
        pushed = self._pushing()

        async def push() -> None:
            await pushed.feed(pcm)
            await pushed.end()

        self._runner.start(push)
        return self

    async def interrupt(self) -> None:
        """Silence the agent for the rest of what it is saying: neither its voice nor its words come any more.

        Models of this family take no order to stop. The model goes on inside, and is heard again when it has come to a
        pause and begins anew; if it is silent, nothing happens.

        :raises UsageError: before the conversation has been entered
        """
        self._runner.check()
        await self._runner.interrupt()

    async def mute_agent(self, muted: bool = True) -> None:
        """Silence the agent until ``mute_agent(False)``; it hears the user meanwhile, and may answer unheard.

        :raises UsageError: before the conversation has been entered
        """
        self._runner.check()
        await self._runner.mute_agent(muted)

    async def press_key(self, key: str) -> None:
        """Tell that the user pressed a key of a telephone, for a ``KeyPressed``; models do not hear it.

        :raises UsageError: if ``key`` is none of ``0123456789*#ABCD``, or before the conversation has been entered
        """
        if key not in KEYS:
            raise UsageError(f"the key is {shown(key)}; give one of {' '.join(KEYS)}")
        self._runner.check()
        await self._runner.press_key(key)

    def _pushing(self) -> MemoryTransport:
        runner = self._runner
        if runner.transport is not runner.pushed:
            raise UsageError("this conversation hears its transport; leave the transport out to push audio")
        runner.check()
        return runner.pushed


def check_transport(transport: object) -> None:
    """Check that a conversation was given a transport, or none.

    :raises UsageError: if not
    """
    if isinstance(transport, str | PathLike):
        path = str(cast("str | PathLike[str]", transport))
        raise UsageError(f"the transport is {path!r}; write duplex.FileTransport({path!r}) to hear a file")
    if transport is not None and not callable(getattr(transport, "receive", None)):
        raise UsageError(
            f"the transport is {type(transport).__name__}, not a duplex.Transport; to push audio leave it out, "
            "and iterate over conversation.run(pcm)"
        )
