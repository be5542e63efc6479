"""The conformance suite for implementations of :class:`duplex.transport.Transport`."""

# ruff: noqa: S101 -- a failed check is an AssertionError, as in any test

import contextlib
from collections.abc import Callable

import anyio
import numpy as np
from anyio.lowlevel import checkpoint
from numpy.typing import NDArray

from duplex.conversation.local import Conversation
from duplex.events import AgentAudio, EndReason, SessionEnded
from duplex.testing.fake import fake_model
from duplex.transport import Transport

__all__ = ["check_transport"]

_RATE = 24000
_FRAME = 1920


async def check_transport(make: Callable[[], Transport], *, within: float = 30.0) -> None:
    """Run the conformance suite on an implementation of :class:`~duplex.transport.Transport`.

    ``make()`` returns a transport that has not been started, whose user says a second or so and is then over; it is
    called several times. Nothing may take longer than ``within`` seconds.

        @pytest.mark.anyio
        async def test_my_transport():
            await check_transport(lambda: MyTransport("question.wav"))

    :raises AssertionError: with a sentence that says what was wrong
    """
    for what, check in (
        ("used in both directions, to the end", _check_line),
        ("closed in the middle", _check_early_end),
        ("closed without having been started", _check_unused),
        ("cancelled while it waits for audio", _check_cancelled),
        ("in a conversation", _check_conversation),
    ):
        with anyio.move_on_after(within) as scope:
            await check(make())
        assert not scope.cancelled_caught, f"the transport hangs when {what} (for more than {within:g} seconds)"


async def _check_line(transport: Transport) -> None:
    realtime = transport.realtime
    assert isinstance(realtime, bool), f"realtime is {realtime!r}, not a bool"  # pyright: ignore[reportUnnecessaryIsInstance]
    received: list[NDArray[np.float32]] = []

    async def receive() -> None:
        while True:
            try:
                received.append(await transport.receive())
            except anyio.EndOfStream:
                return

    await transport.start(_RATE)
    try:
        async with anyio.create_task_group() as both:
            both.start_soon(receive)
            for level in (0.0, 0.5, 1.5):  # unclipped audio may be louder than full scale
                await transport.send(np.full(_FRAME, level, np.float32))
        await transport.finish()
        assert transport.realtime == realtime, "realtime changed while the transport was in use"
    finally:
        await transport.aclose()
    await transport.aclose()
    assert received, "receive gave no audio before EndOfStream; make() must give a transport whose user says something"
    for pcm in received:
        assert pcm.dtype == np.float32, f"receive gave {pcm.dtype}, not float32"
        assert pcm.ndim == 1, f"receive gave the shape {pcm.shape}, not [samples]"
        assert pcm.size, "receive gave an empty piece; wait until there is audio"
        assert np.isfinite(pcm).all(), "receive gave NaN or infinity"


async def _check_early_end(transport: Transport) -> None:
    await transport.start(_RATE)
    await transport.receive()
    await transport.send(np.zeros(_FRAME, np.float32))
    await transport.aclose()
    await transport.aclose()


async def _check_unused(transport: Transport) -> None:
    await transport.aclose()
    await transport.aclose()


async def _check_cancelled(transport: Transport) -> None:
    await transport.start(_RATE)

    async def receive() -> None:
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                await transport.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await checkpoint()
        group.cancel_scope.cancel()
    await transport.aclose()


async def _check_conversation(transport: Transport) -> None:
    frames, ended = 0, None
    with fake_model() as model:
        async with Conversation(model, transport) as conversation:
            async for event in conversation:
                frames += isinstance(event, AgentAudio)
                if isinstance(event, SessionEnded):
                    ended = event
    assert ended is not None, "a conversation on the transport gave no SessionEnded"
    assert ended.reason is EndReason.FINISHED, f"a conversation on the transport ended as {ended.reason}"
    assert ended.usage.frames >= frames > 0, "a conversation on the transport gave no frame of audio"
