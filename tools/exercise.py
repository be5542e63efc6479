"""Run a recording, a call and a saved state through whatever versions are installed here; see test_versions.py.

python tools/exercise.py recording.wav
"""

import sys
from pathlib import Path

import anyio
import anyio.abc
import anyio.from_thread
import numpy as np
from numpy.typing import NDArray

import duplex
from duplex.audio.decoding import Decoder
from duplex.server import Listening, serve

RATE = 24000
SECONDS = 4
LONGEST_CALL = 60
"""Seconds in which a call of a few has to be over."""


def main() -> None:
    """Raise what does not work."""
    decoder = Decoder(Path(sys.argv[1]), RATE, "mix")
    pieces: list[NDArray[np.float32]] = []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    pcm = np.concatenate(pieces)[: SECONDS * RATE]
    with duplex.load("tiny", deterministic=True) as model:
        for backend in ("asyncio", "trio"):
            _check_state(model, pcm, backend)
            _check_call(model, pcm, backend)


def _check_state(model: duplex.Model, pcm: NDArray[np.float32], backend: str) -> None:
    """Hold a conversation, and the second half of it again from bytes: the same is said."""
    half = pcm.size // 2

    async def whole() -> tuple[bytes, list[bytes]]:
        state, said = b"", list[bytes]()
        async with duplex.Conversation(model) as conversation:
            await conversation.send(pcm[:half])
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio):
                    said.append(event.pcm.tobytes())
                if not state and event.at > 1:
                    state = await conversation.export()  # while it waits for more: the model does not wait for events
                    await conversation.send(pcm[half:])
                    await conversation.finish()
        return state, said

    async def rest(state: bytes) -> list[bytes]:
        async with duplex.Conversation(model, state=state) as conversation:
            left = pcm[round(conversation.resume_at * RATE) :]
            return [
                event.pcm.tobytes() async for event in conversation.run(left) if isinstance(event, duplex.AgentAudio)
            ]

    state, said = anyio.run(whole, backend=backend)
    again = anyio.run(rest, state, backend=backend)
    rest_of_said = said[-len(again) :] if again else []
    same = [one == other for one, other in zip(rest_of_said, again, strict=True)]
    if not same or not all(same):
        raise SystemExit(f"on {backend} a conversation that was saved goes on differently: {same}")


def _check_call(model: duplex.Model, pcm: NDArray[np.float32], backend: str) -> None:
    """Call a server in this process, and hear it."""

    async def call(port: int) -> int:
        heard = 0
        with anyio.fail_after(LONGEST_CALL):
            async with duplex.connect(f"ws://127.0.0.1:{port}") as conversation:
                async for event in conversation.run(pcm):
                    heard += isinstance(event, duplex.AgentAudio)
        return heard

    with anyio.from_thread.start_blocking_portal() as portal:
        serving, port = portal.start_task(_served, model)
        try:
            heard = anyio.run(call, port, backend=backend)
        finally:
            serving.cancel()
    if heard < SECONDS:
        raise SystemExit(f"on {backend} a call was answered with {heard} frames of sound")


async def _served(model: duplex.Model, *, task_status: anyio.abc.TaskStatus[int]) -> None:
    await serve(model, listening=Listening(port=0), started=task_status.started)


if __name__ == "__main__":
    main()
