"""From the first sample of a user's frame, where it comes in, to the first sample of the answer, where it goes out.

A frame of 80 ms lasts that long before anything can be done with it; what the model itself looks ahead or holds back
comes besides, and is the same everywhere: the paper's 160 ms are a frame and a delay of one frame (section 3.4).
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import attrs

from duplex.bench.codec import noise
from duplex.bench.times import Times
from duplex.conversation.dialogue import Dialogue
from duplex.conversation.local import Conversation
from duplex.engine.model import Model
from duplex.errors import ClosedError
from duplex.events import Lag
from duplex.frame_model import ModelSpec
from duplex.transports import MemoryTransport

__all__ = ["LatencyTimes", "measure_latency"]

Way = Literal["memory", "websocket"]
PIECES = 4
"""Pieces that a frame comes in, as from a sound card: 20 ms each."""
WARM_UP = 12


@attrs.frozen(kw_only=True)
class LatencyTimes:
    """``frame`` is the frame's own length, ``incoming`` the way to the model, ``outgoing`` that from it."""

    way: Way
    total: Times
    frame_ms: float
    incoming: Times
    step: Times
    outgoing: Times
    theoretical_ms: float
    """A frame and the largest delay among the agent's streams: what a model of no cost would have."""
    lags: int
    """How often real time was lost while it was measured."""

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "way": self.way,
            "total_ms": self.total.as_json(),
            "frame_ms": self.frame_ms,
            "incoming_ms": self.incoming.as_json(),
            "step_ms": self.step.as_json(),
            "outgoing_ms": self.outgoing.as_json(),
            "theoretical_ms": self.theoretical_ms,
            "lags": self.lags,
        }


@attrs.define
class _Clock:
    """When each frame began and was whole, was stepped, and was answered; seconds."""

    begun: list[float] = attrs.Factory(list[float])
    whole: list[float] = attrs.Factory(list[float])
    started: list[float] = attrs.Factory(list[float])
    stepped_at: list[float] = attrs.Factory(list[float])
    answered: list[float] = attrs.Factory(list[float])

    def stepped(self, seconds: float, waited: Sequence[float]) -> None:  # noqa: ARG002 -- an engine's observer
        """Take one step of the engine, which is over now."""
        self.stepped_at.append(time.perf_counter())
        self.started.append(self.stepped_at[-1] - seconds)


async def measure_latency(model: Model, frames: int, way: Way = "memory") -> LatencyTimes:
    """Hold one conversation in real time, over so many frames, and measure each of them.

    :raises UsageError: if the model has no voice
    :raises MissingDependencyError: for a websocket, if the server's extra is not installed
    """
    clock, lags = _Clock(), 0
    transport = MemoryTransport(sample_rate=model.spec.sample_rate, realtime=True)
    async with _dialogue(model, transport, way) as dialogue, anyio.create_task_group() as tasks:
        tasks.start_soon(_decode, transport, model.spec, frames + WARM_UP, clock)
        tasks.start_soon(_hear, transport, clock)
        with model.engine.observed(clock):
            async for event in dialogue:
                lags += isinstance(event, Lag)
    return _summed_up(clock, model.spec, way, lags)


@asynccontextmanager
async def _dialogue(model: Model, transport: MemoryTransport, way: Way) -> AsyncGenerator[Dialogue]:
    if way == "memory":
        async with Conversation(model, transport) as conversation:
            yield conversation
        return
    from duplex.conversation.remote import connect  # noqa: PLC0415 -- needs the client's extra
    from duplex.server import Listening, Settings, serve  # noqa: PLC0415 -- needs the server's extra

    ports, port = anyio.create_memory_object_stream[int](1)
    async with ports, port, anyio.create_task_group() as tasks:
        listening = Listening(port=0, drain=0)

        async def run() -> None:
            await serve(model, Settings(queue=0), listening, started=ports.send_nowait)

        tasks.start_soon(run)
        async with connect(f"http://127.0.0.1:{await port.receive()}", transport) as conversation:
            yield conversation
        tasks.cancel_scope.cancel()


async def _decode(transport: MemoryTransport, spec: ModelSpec, frames: int, clock: _Clock) -> None:
    """Give noise, piece by piece, each when its last sample would have been recorded."""
    began = time.perf_counter()
    size = spec.frame_size // PIECES
    for number, frame in enumerate(noise(frames, spec.frame_size)):
        clock.begun.append(began + number * spec.frame_duration)
        for piece in range(PIECES):
            due = clock.begun[-1] + (piece + 1) * spec.frame_duration / PIECES
            await anyio.sleep(max(0.0, due - time.perf_counter()))
            end = spec.frame_size if piece == PIECES - 1 else (piece + 1) * size
            await transport.feed(frame[piece * size : end])
        clock.whole.append(time.perf_counter())
    await transport.end()


async def _hear(transport: MemoryTransport, clock: _Clock) -> None:
    while True:
        try:
            await transport.hear()
        except (anyio.EndOfStream, ClosedError):
            return
        clock.answered.append(time.perf_counter())


def _summed_up(clock: _Clock, spec: ModelSpec, way: Way, lags: int) -> LatencyTimes:
    """Pair each answer with the frame whose step it came out of."""
    behind = spec.latency_frames
    answers = dict(enumerate(clock.answered, behind))
    numbers = [number for number in range(WARM_UP, len(clock.begun)) if number in answers]
    delays = spec.delays[1 : 1 + spec.agent_streams]
    return LatencyTimes(
        way=way,
        total=Times.of([answers[number] - clock.begun[number] for number in numbers]),
        frame_ms=1e3 * spec.frame_duration,
        incoming=Times.of([clock.started[number] - clock.whole[number] for number in numbers]),
        step=Times.of([clock.stepped_at[number] - clock.started[number] for number in numbers]),
        outgoing=Times.of([answers[number] - clock.stepped_at[number] for number in numbers]),
        theoretical_ms=1e3 * spec.frame_duration * (1 + max(delays, default=0)),
        lags=lags,
    )
