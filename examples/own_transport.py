"""A transport of one's own: a live line on which somebody hums for three seconds.

python examples/own_transport.py
"""

import anyio
import numpy as np
from numpy.typing import NDArray

import duplex


class Humming:
    """A live transport: its audio comes at the pace of the clock, in pieces of 20 ms, as a network's would."""

    PIECE = 0.02

    def __init__(self, seconds: float) -> None:
        self._pieces = round(seconds / self.PIECE)
        self._sent = 0
        self._rate = 0
        self._began = 0.0
        self.heard_back = 0

    @property
    def realtime(self) -> bool:
        """Nobody can hold this line back: lost time must be caught up."""
        return True

    async def start(self, sample_rate: int) -> None:
        """Open the line at the model's rate."""
        self._rate, self._began = sample_rate, anyio.current_time()

    async def receive(self) -> NDArray[np.float32]:
        """Wait until the next 20 ms are there."""
        if self._sent == self._pieces:
            raise anyio.EndOfStream
        self._sent += 1
        await anyio.sleep_until(self._began + self._sent * self.PIECE)
        size = round(self.PIECE * self._rate)
        samples = np.arange((self._sent - 1) * size, self._sent * size)
        return (0.1 * np.sin(2 * np.pi * 140 * samples / self._rate)).astype(np.float32)

    async def send(self, pcm: NDArray[np.float32]) -> None:
        """Play the agent's next frame; here it is only counted."""
        self.heard_back += pcm.size

    async def finish(self) -> None:
        """Everything has been sent; a loudspeaker would play out what it holds."""

    async def aclose(self) -> None:
        """Release the line; there is nothing to release."""


async def main() -> None:
    """Talk over the line and print everything but the audio."""
    line = Humming(seconds=3)
    with await duplex.load_async("tiny") as model:
        async with duplex.Conversation(model, line) as conversation:
            async for event in conversation:
                if not isinstance(event, duplex.AgentAudio | duplex.AgentText):
                    print(event)
        print(f"{line.heard_back / model.spec.sample_rate:.2f} s came back")


if __name__ == "__main__":
    anyio.run(main)
