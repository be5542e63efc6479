"""Benchmark of latency: from the first sample of a user's frame to the first sample of the model's response to it.

A frame can only be processed once it is complete, after 80 ms. The model's own delay is added and is the same on every
machine: the paper's theoretical 160 ms are a frame and a delay of one frame (section 3.4).
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import attrs

from duplex.bench.codec import noise
from duplex.bench.timing import Percentiles
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
"""Chunks per frame, as from a sound card: 20 ms each."""
WARM_UP = 12


@attrs.frozen(kw_only=True)
class LatencyTimes:
    """Latency and its parts: the duration of a frame, the way to the model, the step, and the way back."""

    way: Way
    total: Percentiles
    frame_ms: float
    incoming: Percentiles
    step: Percentiles
    outgoing: Percentiles
    theoretical_ms: float
    """The latency without computation: a frame, and the largest delay of the agent's streams."""
    lags: int
    """The number of ``Lag`` events during the measurement."""

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
class _Timestamps:
    """The times at which each frame started and ended, was stepped, and its response was received; in seconds."""

    frame_starts: list[float] = attrs.Factory(list[float])
    frame_ends: list[float] = attrs.Factory(list[float])
    step_starts: list[float] = attrs.Factory(list[float])
    step_ends: list[float] = attrs.Factory(list[float])
    audio_times: list[float] = attrs.Factory(list[float])

    def stepped(self, seconds: float, waited: Sequence[float]) -> None:  # noqa: ARG002 -- an engine's observer
        """Record a step of the engine that has just ended."""
        self.step_ends.append(time.perf_counter())
        self.step_starts.append(self.step_ends[-1] - seconds)


async def measure_latency(model: Model, frames: int, way: Way = "memory") -> LatencyTimes:
    """Run one conversation in real time over ``frames`` frames, and measure the latency of each.

    :raises UsageError: if the model generates no audio
    :raises MissingDependencyError: for a websocket, if the server's extra is not installed
    """
    timestamps, lags = _Timestamps(), 0
    transport = MemoryTransport(sample_rate=model.spec.sample_rate, realtime=True)
    async with _dialogue(model, transport, way) as dialogue, anyio.create_task_group() as tasks:
        tasks.start_soon(_feed_noise, transport, model.spec, frames + WARM_UP, timestamps)
        tasks.start_soon(_receive_audio, transport, timestamps)
        with model.engine.observed(timestamps):
            async for event in dialogue:
                lags += isinstance(event, Lag)
    return _latency_times(timestamps, model.spec, way, lags)


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


async def _feed_noise(transport: MemoryTransport, spec: ModelSpec, frames: int, timestamps: _Timestamps) -> None:
    """Feed noise in chunks, each at the time at which its last sample would have been recorded."""
    began = time.perf_counter()
    size = spec.frame_size // PIECES
    for number, frame in enumerate(noise(frames, spec.frame_size)):
        timestamps.frame_starts.append(began + number * spec.frame_duration)
        for piece in range(PIECES):
            due = timestamps.frame_starts[-1] + (piece + 1) * spec.frame_duration / PIECES
            await anyio.sleep(max(0.0, due - time.perf_counter()))
            end = spec.frame_size if piece == PIECES - 1 else (piece + 1) * size
            await transport.feed(frame[piece * size : end])
        timestamps.frame_ends.append(time.perf_counter())
    await transport.end()


async def _receive_audio(transport: MemoryTransport, timestamps: _Timestamps) -> None:
    while True:
        try:
            await transport.hear()
        except (anyio.EndOfStream, ClosedError):
            return
        timestamps.audio_times.append(time.perf_counter())


def _latency_times(timestamps: _Timestamps, spec: ModelSpec, way: Way, lags: int) -> LatencyTimes:
    """Match each response with the frame of the step that generated it."""
    behind = spec.latency_frames
    answers = dict(enumerate(timestamps.audio_times, behind))
    numbers = [number for number in range(WARM_UP, len(timestamps.frame_starts)) if number in answers]
    delays = spec.delays[1 : 1 + spec.agent_streams]
    return LatencyTimes(
        way=way,
        total=Percentiles.of([answers[number] - timestamps.frame_starts[number] for number in numbers]),
        frame_ms=1e3 * spec.frame_duration,
        incoming=Percentiles.of([timestamps.step_starts[number] - timestamps.frame_ends[number] for number in numbers]),
        step=Percentiles.of([timestamps.step_ends[number] - timestamps.step_starts[number] for number in numbers]),
        outgoing=Percentiles.of([answers[number] - timestamps.step_ends[number] for number in numbers]),
        theoretical_ms=1e3 * spec.frame_duration * (1 + max(delays, default=0)),
        lags=lags,
    )
