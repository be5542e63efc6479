"""People at the other end of `conversation_quality.py`: they speak, listen to the agent, and hang up.

A caller is asked for the user's next frame once the agent's last one is there, so it can react to what it hears; many
calls run side by side on one model.
"""

from collections.abc import Sequence
from typing import Protocol

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

import duplex
from duplex.audio.pcm import level_dbfs

__all__ = [
    "FRAME",
    "RATE",
    "SPEAKS_DBFS",
    "Agent",
    "Call",
    "Caller",
    "Echoing",
    "Interrupting",
    "Speaking",
    "make_calls",
]

Float32 = NDArray[np.float32]
RATE = 24000
FRAME = 1920
FRAME_SECONDS = FRAME / RATE
SPEAKS_DBFS = -45.0
"""The agent's level above which it speaks, as in the events."""


@attrs.frozen(eq=False)
class Agent:
    """Who is called: a model, and how its sessions are sampled."""

    model: duplex.Model
    options: duplex.SessionOptions


@attrs.frozen(kw_only=True, eq=False)
class Call:
    """What came of a call: both channels, float32 ``[samples]``, and the agent's pieces of text with their seconds."""

    user: Float32
    agent: Float32
    pieces: tuple[tuple[float, str], ...]

    @property
    def speaks(self) -> NDArray[np.bool_]:
        """In which frames the agent is heard, bool ``[frames]``."""
        return np.array([level_dbfs(frame) > SPEAKS_DBFS for frame in self.agent.reshape(-1, FRAME)], np.bool_)

    def text(self, start: float = 0.0, end: float = float("inf")) -> str:
        """Return what the agent says from one second to another, by its inner monologue."""
        return "".join(piece for at, piece in self.pieces if start <= at < end).strip()

    def first_word(self, start: float) -> float | None:
        """Return when the agent's first word after a second begins."""
        return next((at for at, piece in self.pieces if at >= start and piece.strip()), None)


class Caller(Protocol):
    """Somebody who talks with the agent."""

    def frame(self, agent: Float32 | None) -> Float32 | None:
        """Return the next frame that the user's microphone hears, ``None`` to hang up.

        ``agent`` is the agent's last frame, ``None`` before the first.
        """
        ...


class Speaking:
    """Says what was prepared, whatever the agent does."""

    def __init__(self, pcm: Float32) -> None:
        self._frames = list(np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME))[::-1]

    def frame(self, agent: Float32 | None) -> Float32 | None:  # noqa: ARG002 -- it does not listen
        """Return the next frame."""
        return self._frames.pop() if self._frames else None


class Interrupting:
    """Asks, and interrupts the answer with another question."""

    PATIENCE = 7
    """Frames of answer before it interrupts."""
    LISTENS = 50
    """Frames of waiting for an answer, and of listening after the second question."""

    def __init__(self, first: Float32, second: Float32) -> None:
        self._asking, self._second = Speaking(first), Speaking(second)
        self._count = self._answered = self._waited = 0
        self.interrupted: int | None = None
        """The frame with which the second question begins, ``None`` if there was never an answer."""

    def frame(self, agent: Float32 | None) -> Float32 | None:
        """Return the next frame."""
        spoken = self._asking.frame(agent)
        if spoken is None and self.interrupted is None:
            spoken = self._listened(agent)
        if spoken is None and self.interrupted is not None:
            spoken = self._second.frame(agent)
            if spoken is None:
                self._waited += 1
                spoken = None if self._waited > self.LISTENS else np.zeros(FRAME, np.float32)
        self._count += 1
        return spoken

    def _listened(self, agent: Float32 | None) -> Float32 | None:
        """Listen to the answer; return silence, ``None`` when it is time to interrupt or to give up."""
        self._waited += 1
        if agent is not None and level_dbfs(agent) > SPEAKS_DBFS:
            self._answered += 1
        if self._answered >= self.PATIENCE:
            self.interrupted, self._waited = self._count, 0
            return None
        return None if self._waited > self.LISTENS else np.zeros(FRAME, np.float32)


class Echoing:
    """Says what was prepared, into a microphone that hears the agent too."""

    def __init__(self, pcm: Float32, gain_db: float) -> None:
        self._speaking = Speaking(pcm)
        self._gain = np.float32(10 ** (gain_db / 20))

    def frame(self, agent: Float32 | None) -> Float32 | None:
        """Return the next frame."""
        spoken = self._speaking.frame(agent)
        return spoken if spoken is None or agent is None else spoken + self._gain * agent


async def make_calls(agent: Agent, callers: Sequence[Caller], sessions: int) -> list[Call]:
    """Return what comes of calls, so many of them at a time."""
    done: dict[int, Call] = {}
    waiting = list(enumerate(callers))[::-1]

    async def work() -> None:
        while waiting:
            index, caller = waiting.pop()
            done[index] = await _call(agent, caller, index)

    if max(agent.model.spec.delays) > 1:
        raise ValueError("its first frame comes out late: a caller cannot wait for each of them")
    async with anyio.create_task_group() as group:
        for _ in range(sessions):
            group.start_soon(work)
    return [done[index] for index in range(len(callers))]


async def _call(agent: Agent, caller: Caller, seed: int) -> Call:
    heard: list[Float32] = []
    pieces: list[tuple[float, str]] = []
    frame = caller.frame(None)
    if frame is None:
        raise ValueError("this caller hangs up before saying anything")
    user = [frame]
    async with duplex.Conversation(agent.model, options=attrs.evolve(agent.options, seed=seed)) as conversation:
        await conversation.send(frame)
        async for event in conversation:
            match event:
                case duplex.AgentText(at=at, text=text):
                    pieces.append((at, text))
                case duplex.AgentAudio(pcm=pcm) if frame is not None:
                    heard.append(pcm)
                    frame = caller.frame(pcm)
                    if frame is None:
                        await conversation.finish()
                    else:
                        user.append(frame)
                        await conversation.send(frame)
                case _:
                    pass
    return Call(user=np.concatenate(user), agent=np.concatenate(heard), pieces=tuple(pieces))
