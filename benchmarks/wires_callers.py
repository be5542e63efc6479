"""Callers on each wire for `wires.py`: each asks the same question at a clock's pace, and notes when what arrives."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import attrs
import av
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from duplex.audio.opus import OpusWriter
from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.transports import wire

__all__ = ["CALLERS", "FRAME_SECONDS", "RATE", "Heard", "Paced", "question"]

Float32 = NDArray[np.float32]
RATE, FRAME_SECONDS, PIECE_SECONDS = 24000, 0.08, 0.02
FRAME, PIECE = 1920, 480
QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"


@attrs.define
class Heard:
    """What one caller sent and heard; times are of ``time.perf_counter``."""

    sent: list[float] = attrs.Factory(list[float])
    """When each 20 ms of sound had been sent."""
    arrived: list[float] = attrs.Factory(list[float])
    """When each frame of the agent's came."""
    seconds: list[float] = attrs.Factory(list[float])
    """How long each is to be played."""
    sounds: list[bytes] = attrs.Factory(list[bytes])
    """Each frame as it travelled, where not all of them come."""
    words: str | None = None
    """As the wire told them."""


class Paced:
    """A live transport in memory: 20 ms of the user's audio at a clock's pace."""

    def __init__(self, pcm: Float32) -> None:
        self.heard = Heard()
        self._pcm = pcm
        self._began = 0.0

    @property
    def realtime(self) -> bool:
        """True: a clock's pace."""
        return True

    async def start(self, sample_rate: int) -> None:
        """Begin."""
        if sample_rate != RATE:
            raise ValueError(f"the model hears {sample_rate} Hz, and the question has {RATE}")
        self._began = time.perf_counter()

    async def receive(self) -> Float32:
        """Wait for the next piece."""
        size, end = RATE // 50, (len(self.heard.sent) + 1) * RATE // 50
        if end > len(self._pcm):
            raise anyio.EndOfStream
        await anyio.sleep(max(0.0, self._began + end / RATE - time.perf_counter()))
        self.heard.sent.append(time.perf_counter())
        return self._pcm[end - size : end]

    async def send(self, pcm: Float32) -> None:  # noqa: ARG002 -- only the time counts
        """Note when a frame comes."""
        self.heard.arrived.append(time.perf_counter())

    async def finish(self) -> None:
        """End."""

    async def aclose(self) -> None:
        """End."""


def question(seconds: float) -> Float32:
    """Return the question and the quiet after it, float32 ``[samples]`` at 24 kHz."""
    with av.open(str(QUESTION)) as container:
        pcm = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    whole = np.zeros(round(seconds * RATE), np.float32)
    whole[: len(pcm)] = pcm[: len(whole)].astype(np.float32) / 32768
    return whole


async def speak(heard: Heard, pcm: Float32, size: int, send: Callable[[Float32], Any]) -> None:
    """Send pieces of ``size`` samples, each when a microphone would have it whole."""
    began = time.perf_counter()
    for end in range(size, len(pcm) + 1, size):
        await anyio.sleep(max(0.0, began + end / RATE - time.perf_counter()))
        await send(pcm[end - size : end])
        heard.sent += [time.perf_counter()] * (size // PIECE)


async def chat(url: str, pcm: Float32, audio_format: str) -> Heard:
    """Call by ``/api/chat``, in Opus or in samples."""
    heard, words = Heard(), list[bytes]()
    codec = create_wire_codec(AudioFormat("pcm"), RATE)
    opus = OpusWriter(RATE)
    async with connect(f"{url}/api/chat?format={audio_format}&seed=7", compression=None) as line:
        while (await line.recv())[0] != wire.Kind.HANDSHAKE:
            pass

        async def send(piece: Float32) -> None:
            await line.send(wire.audio(codec.encode(piece) if audio_format == "pcm" else opus.encode(piece)))

        async def listen() -> None:
            async for data in line:
                if isinstance(data, str):
                    continue
                if data[0] == wire.Kind.AUDIO and (audio_format == "pcm" or b"OpusHead" not in data[:80]):
                    heard.arrived.append(time.perf_counter())
                elif data[0] == wire.Kind.TEXT:
                    words.append(data[1:])

        if audio_format == "opus":
            await line.send(wire.audio(opus.header()))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await speak(heard, pcm, PIECE if audio_format == "pcm" else FRAME, send)
            await line.close()
    heard.words = b"".join(words).decode()
    return heard


async def live(url: str, pcm: Float32, kind: str, rate: int) -> Heard:
    """Call by ``/v1/live/sessions``."""
    heard, words = Heard(), list[str]()
    codec = create_wire_codec(AudioFormat("mulaw" if kind == "audio/pcmu" else "pcm", rate), RATE)
    async with connect(f"{url}/v1/live/sessions", compression=None, max_size=None) as line:
        session = {"model": "tiny", "audio": {"format": {"type": kind, "rate": rate}}}
        await line.send(json.dumps({"type": "session.start", "session": session}))
        while json.loads(await line.recv())["type"] != "session.started":
            pass

        async def send(piece: Float32) -> None:
            audio = base64.b64encode(codec.encode(piece)).decode()
            await line.send(json.dumps({"type": "session.input_audio.append", "audio": audio}))

        async def listen() -> None:
            async for text in line:
                event = json.loads(text)
                if event["type"] == "session.output_audio.delta":
                    heard.arrived.append(time.perf_counter())
                elif event["type"] == "session.output_transcript.delta":
                    words.append(event["delta"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await speak(heard, pcm, PIECE, send)
            await line.close()
    heard.words = "".join(words)
    return heard


async def realtime(url: str, pcm: Float32) -> Heard:
    """Call by ``/v1/realtime``, where only the agent's speech comes."""
    heard, words = Heard(), list[str]()
    codec = create_wire_codec(AudioFormat("pcm"), RATE)
    async with connect(f"{url}/v1/realtime", compression=None, max_size=None) as line:
        await line.send(json.dumps({"type": "session.update", "session": {"type": "realtime", "instructions": ""}}))
        while json.loads(await line.recv())["type"] != "session.updated":
            pass
        await anyio.sleep(0.1)  # until the conversation has begun, of which nothing tells

        async def send(piece: Float32) -> None:
            audio = base64.b64encode(codec.encode(piece)).decode()
            await line.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))

        async def listen() -> None:
            async for text in line:
                event = json.loads(text)
                if event["type"] == "response.output_audio.delta":
                    heard.arrived.append(time.perf_counter())
                    heard.sounds.append(base64.b64decode(event["delta"]))
                elif event["type"] == "response.output_audio_transcript.delta":
                    words.append(event["delta"])
                elif event["type"] == "response.created":
                    words.append(" ")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await speak(heard, pcm, PIECE, send)
            await line.close()
    heard.words = "".join(words)
    return heard


async def twilio(url: str, pcm: Float32) -> Heard:
    """Call by ``/twilio``; what is heard is played at once, so that marks come straight back."""
    heard = Heard()
    codec = create_wire_codec(AudioFormat("mulaw", 8000), RATE)
    start = {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}, "customParameters": {"seed": "7"}}
    async with connect(f"{url}/twilio", compression=None) as line:
        await line.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
        await anyio.sleep(0.1)  # until the conversation has begun, as when a call is set up

        async def send(piece: Float32) -> None:
            media = {"track": "inbound", "payload": base64.b64encode(codec.encode(piece)).decode()}
            await line.send(json.dumps({"event": "media", "media": media}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hear_service, line, heard)
            await speak(heard, pcm, PIECE, send)
            await line.close()
    return heard


async def _hear_service(line: ClientConnection, heard: Heard) -> None:
    async for text in line:
        event = json.loads(text)
        if event["event"] == "media":
            heard.arrived.append(time.perf_counter())
            heard.seconds.append(len(base64.b64decode(event["media"]["payload"])) / 8000)
        elif event["event"] == "mark":
            await line.send(json.dumps({"event": "mark", "mark": event["mark"]}))


CALLERS: Mapping[str, Callable[[str, Float32], Any]] = {
    "chat, Opus": lambda url, pcm: chat(url, pcm, "opus"),
    "chat, 16 bit": lambda url, pcm: chat(url, pcm, "pcm"),
    "live, 24 kHz": lambda url, pcm: live(url, pcm, "audio/pcm", 24000),
    "live, 16 kHz": lambda url, pcm: live(url, pcm, "audio/pcm", 16000),
    "live, mu-law": lambda url, pcm: live(url, pcm, "audio/pcmu", 8000),
    "realtime": realtime,
    "twilio": twilio,
}
