"""Save a conversation in the middle, go on from the bytes, and see that nothing has changed.

python examples/suspend_and_resume.py
"""

import anyio
import numpy as np
from numpy.typing import NDArray

import duplex


class Tokens:
    """A recorder that keeps the text token of every frame."""

    def __init__(self) -> None:
        self.text: list[int] = []

    def record(self, frame: duplex.Frame) -> None:
        """Take one time step."""
        self.text.append(frame.text)


async def listen(model: duplex.Model, pcm: NDArray[np.float32]) -> list[int]:
    """Hold the whole conversation in one go."""
    tokens = Tokens()
    async with duplex.Conversation(model, recorder=tokens) as conversation:
        async for _ in conversation.run(pcm):
            pass
    return tokens.text


async def suspend(model: duplex.Model, pcm: NDArray[np.float32]) -> tuple[list[int], bytes]:
    """Hold a conversation as far as ``pcm`` goes, and save it there, without ending it."""
    tokens = Tokens()
    async with duplex.Conversation(model, recorder=tokens) as conversation:
        await conversation.send(pcm)
        async for _ in conversation:
            if len(tokens.text) * model.spec.frame_size == len(pcm):
                break
        return tokens.text, await conversation.export()


async def resume(model: duplex.Model, state: bytes, pcm: NDArray[np.float32]) -> list[int]:
    """Go on where ``state`` was saved."""
    tokens = Tokens()
    async with duplex.Conversation(model, state=state, recorder=tokens) as conversation:
        async for event in conversation.run(pcm):
            if isinstance(event, duplex.SessionStarted):
                print(f"going on at {event.at:.2f} s, with event {event.sequence}")
    return tokens.text


async def main() -> None:
    """Compare a conversation in one go with one that was saved after two seconds."""
    with await duplex.load_async("tiny") as model:
        noise = np.random.default_rng(0).standard_normal(4 * model.spec.sample_rate)
        pcm = (0.05 * noise).astype(np.float32)
        half = 25 * model.spec.frame_size
        whole = await listen(model, pcm)
        first, state = await suspend(model, pcm[:half])
        second = await resume(model, state, pcm[half:])
    print(f"{len(state)} bytes hold the conversation")
    print("the same tokens:", first + second == whole)


if __name__ == "__main__":
    anyio.run(main)
