"""A duplex conversation as a handler of FastRTC: WebRTC, a websocket or a telephone in front of a duplex server.

    Stream(DuplexHandler("http://127.0.0.1:8998"), modality="audio", mode="send-receive")

FastRTC makes a copy of the handler for each caller; each has a conversation of its own on the server. The agent's words
come as `AdditionalOutputs`.

python examples/fastrtc_handler.py
"""

import asyncio

import numpy as np
from fastrtc import AdditionalOutputs, AsyncStreamHandler, CloseStream, Stream
from numpy.typing import NDArray

import duplex

RATE = 24000


class DuplexHandler(AsyncStreamHandler):
    """One caller of a server; `url` is that of its page."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        super().__init__(input_sample_rate=RATE, output_sample_rate=RATE)
        self._url, self._token = url, token
        self._said: asyncio.Queue[tuple[int, NDArray[np.int16]] | AdditionalOutputs | CloseStream] = asyncio.Queue()
        self._conversation: duplex.RemoteConversation | None = None

    def copy(self) -> "DuplexHandler":
        """Return one for another caller."""
        return DuplexHandler(self._url, token=self._token)

    async def start_up(self) -> None:
        """Hold the conversation."""
        try:
            async with duplex.connect(self._url, token=self._token) as conversation:
                async for event in conversation:
                    self._conversation = conversation
                    self._tell(event)
        except duplex.DuplexError as error:
            self._said.put_nowait(CloseStream(str(error)))
        finally:
            self._conversation = None

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        """Take what the user says; before the conversation begins nobody hears it."""
        if self._conversation is not None:
            await self._conversation.send(frame[1].reshape(-1))

    async def emit(self) -> tuple[int, NDArray[np.int16]] | AdditionalOutputs | CloseStream:
        """Return what comes next."""
        return await self._said.get()

    async def shutdown(self) -> None:
        """Hang up."""
        if self._conversation is not None:
            await self._conversation.aclose()

    def _tell(self, event: duplex.Event) -> None:
        if isinstance(event, duplex.AgentAudio):
            self._said.put_nowait((RATE, (event.pcm.clip(-1, 1) * 32767).astype(np.int16)[None]))
        elif isinstance(event, duplex.AgentText):
            self._said.put_nowait(AdditionalOutputs(event.text))


if __name__ == "__main__":
    Stream(DuplexHandler("http://127.0.0.1:8998"), modality="audio", mode="send-receive").ui.launch()
