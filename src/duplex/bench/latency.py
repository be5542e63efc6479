"""Benchmark of latency: from the first sample of a user's frame to the first sample of the model's response to it.

A frame can only be processed once it is complete, after 80 ms. The model's own delay is added and is the same on every
machine: the paper's theoretical 160 ms are a frame and a delay of one frame (section 3.4).
"""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import attrs
import numpy as np

from duplex.bench.codec import noise
from duplex.bench.timing import Percentiles
from duplex.conversation.dialogue import Dialogue
from duplex.conversation.local import Conversation
from duplex.engine.model import Model
from duplex.engine.time_line import PendingFrame
from duplex.errors import ClosedError
from duplex.events import Lag
from duplex.frame_model import ModelSpec
from duplex.transports import MemoryTransport

__all__ = ["Answer", "LatencyTimes", "Step", "Timestamps", "measure_latency", "pair_answers"]

Way = Literal["memory", "websocket"]
PIECES = 4
"""Chunks per frame, as from a sound card: 20 ms each."""
WARM_UP = 12
ATTEMPTS = 4
"""Conversations at most, where real time is lost before enough frames have been measured."""


@attrs.frozen(kw_only=True)
class LatencyTimes:
    """Latency and its parts: the duration of a frame, the way to the model, the step, and the way back.

    Percentiles are ``None`` if real time was lost at once in every attempt.
    """

    way: Way
    total: Percentiles | None
    frame_ms: float
    incoming: Percentiles | None
    step: Percentiles | None
    outgoing: Percentiles | None
    theoretical_ms: float
    """The latency without computation: a frame, and the largest delay of the agent's streams."""
    measured: int
    """The number of frames that were measured."""
    spoilt: int
    """The number of frames left out because real time had been lost: their answers belong to other audio."""

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        parts = {name: getattr(self, name) for name in ("total", "incoming", "step", "outgoing")}
        return {
            "way": self.way,
            "frame_ms": self.frame_ms,
            **{f"{name}_ms": None if part is None else part.as_json() for name, part in parts.items()},
            "theoretical_ms": self.theoretical_ms,
            "measured": self.measured,
            "spoilt": self.spoilt,
        }


@attrs.frozen
class Step:
    """A step of the model: its time step, when it began and ended, and whether it heard what was said then."""

    index: int
    began: float
    ended: float
    heard: bool


@attrs.define
class Timestamps:
    """The times of one conversation, in seconds on the monotonic clock."""

    frame_starts: list[float] = attrs.Factory(list[float])
    """When the user began to say each frame."""
    frame_ends: list[float] = attrs.Factory(list[float])
    steps: list[Step] = attrs.Factory(list[Step])
    audio_times: list[float] = attrs.Factory(list[float])
    """When each frame of the agent was received."""
    lost_at: float = math.inf
    """Where on the time line real time was first lost, in seconds."""

    def stepped(self, began: float, ended: float, frames: Sequence[PendingFrame]) -> None:
        """Record a step of the engine."""
        for frame in frames:
            silence = frame.pcm.size - int(np.count_nonzero(frame.pcm))
            self.steps.append(Step(frame.index, began, ended, heard=silence < frame.pcm.size // PIECES))


@attrs.frozen
class Answer:
    """What is known of a frame that was answered; times in seconds."""

    total: float
    incoming: float
    step: float
    outgoing: float


def pair_answers(timestamps: Timestamps, spec: ModelSpec) -> list[Answer]:
    """Return the answers to the user's frames, by time step.

    Time step n hears the user's n-th frame for as long as real time is kept. Once silence has stood in for audio that
    came late, or audio was skipped, it no longer does: what comes after that is left out.
    """
    found: list[Answer] = []
    for number, step in enumerate(timestamps.steps):
        answered = number - spec.latency_frames
        if step.index != number or not step.heard or number * spec.frame_duration >= timestamps.lost_at:
            break
        if number >= len(timestamps.frame_ends) or not 0 <= answered < len(timestamps.audio_times):
            continue
        if number >= WARM_UP:
            received = timestamps.audio_times[answered]
            found.append(
                Answer(
                    total=received - timestamps.frame_starts[number],
                    incoming=step.began - timestamps.frame_ends[number],
                    step=step.ended - step.began,
                    outgoing=received - step.ended,
                )
            )
    return found


async def measure_latency(model: Model, frames: int, way: Way = "memory") -> LatencyTimes:
    """Run conversations in real time until the latency of ``frames`` frames has been measured, four at most.

    :raises UsageError: if the model generates no audio
    :raises MissingDependencyError: for a websocket, if the server's extra is not installed
    """
    answers: list[Answer] = []
    spoilt = 0
    for _ in range(ATTEMPTS):
        wanted = frames - len(answers)
        timestamps = await _converse(model, wanted, way)
        found = pair_answers(timestamps, model.spec)
        answers += found
        spoilt += wanted - len(found)
        if len(answers) == frames:
            break
    delays = model.spec.delays[1 : 1 + model.spec.agent_streams]

    def part(name: str) -> Percentiles | None:
        return Percentiles.of([getattr(answer, name) for answer in answers]) if answers else None

    return LatencyTimes(
        way=way,
        total=part("total"),
        frame_ms=1e3 * model.spec.frame_duration,
        incoming=part("incoming"),
        step=part("step"),
        outgoing=part("outgoing"),
        theoretical_ms=1e3 * model.spec.frame_duration * (1 + max(delays, default=0)),
        measured=len(answers),
        spoilt=spoilt,
    )


async def _converse(model: Model, frames: int, way: Way) -> Timestamps:
    """Run one conversation of so many frames, and those before that warm it up."""
    timestamps = Timestamps()
    transport = MemoryTransport(sample_rate=model.spec.sample_rate, realtime=True)
    async with _dialogue(model, transport, way) as dialogue, anyio.create_task_group() as tasks:
        tasks.start_soon(_feed_noise, transport, model.spec, frames + WARM_UP, timestamps)
        tasks.start_soon(_receive_audio, transport, timestamps)
        with model.engine.observed(timestamps):
            async for event in dialogue:
                if isinstance(event, Lag):
                    timestamps.lost_at = min(timestamps.lost_at, event.at)
    return timestamps


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


async def _feed_noise(transport: MemoryTransport, spec: ModelSpec, frames: int, timestamps: Timestamps) -> None:
    """Feed noise in chunks, each at the time at which its last sample would have been recorded."""
    began = time.monotonic()
    size = spec.frame_size // PIECES
    for number, frame in enumerate(noise(frames, spec.frame_size)):
        timestamps.frame_starts.append(began + number * spec.frame_duration)
        for piece in range(PIECES):
            due = timestamps.frame_starts[-1] + (piece + 1) * spec.frame_duration / PIECES
            await anyio.sleep(max(0.0, due - time.monotonic()))
            end = spec.frame_size if piece == PIECES - 1 else (piece + 1) * size
            await transport.feed(frame[piece * size : end])
        timestamps.frame_ends.append(time.monotonic())
    await transport.end()


async def _receive_audio(transport: MemoryTransport, timestamps: Timestamps) -> None:
    while True:
        try:
            await transport.hear()
        except (anyio.EndOfStream, ClosedError):
            return
        timestamps.audio_times.append(time.monotonic())
