"""One call by FastRTC's own websocket to a handler that talks to a duplex server.

Runs in an environment that has fastrtc; `frameworks.py` starts it. Prints a JSON object of what was heard.

python benchmarks/frameworks_fastrtc.py fastrtc_handler HOST:PORT RECORDING
"""

import asyncio
import base64
import json
import socket
import sys
import time
import wave
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import uvicorn
from fastapi import FastAPI
from fastrtc import Stream
from websockets.asyncio.client import ClientConnection, connect

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from duplex.audio.g711 import compress, expand
from fastrtc_handler import RATE, DuplexHandler

PIECE = 0.02
"""Seconds of a message."""
ANSWER = 6.0
"""Seconds of silence after the question."""


async def say(line: ClientConnection, path: str) -> None:
    """Say a recording at the pace of a clock, at the rate that the handler hears, in mu-law as FastRTC wants it."""
    with wave.open(path) as file:
        rate, audio = file.getframerate(), file.readframes(file.getnframes())
    pcm = np.frombuffer(audio, np.int16).astype(np.float32) / 32768
    pcm = np.concatenate([np.zeros(2 * rate, np.float32), pcm, np.zeros(round(ANSWER * rate), np.float32)])
    pcm = librosa.resample(pcm, orig_sr=rate, target_sr=RATE)
    began, size = time.monotonic(), round(PIECE * RATE)
    for number, start in enumerate(range(0, len(pcm), size)):
        await asyncio.sleep(max(0.0, began + number * PIECE - time.monotonic()))
        coded = compress("mulaw", (pcm[start : start + size] * 32767).astype(np.int16))
        payload = base64.b64encode(coded.tobytes()).decode()
        await line.send(json.dumps({"event": "media", "media": {"payload": payload}}))
    await line.send(json.dumps({"event": "stop"}))


async def main(_: str, host: str, path: str) -> None:
    """Ask, hear the answer and print it."""
    stream = Stream(
        DuplexHandler(f"http://{host}/?temperature=0&text_temperature=0"), modality="audio", mode="send-receive"
    )
    application = FastAPI()
    stream.mount(application)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        serving = asyncio.create_task(server.serve([bound]))
        words: list[str] = []
        samples, loudest = 0, 0.0
        async with connect(f"ws://127.0.0.1:{bound.getsockname()[1]}/websocket/offer") as line:
            await line.send(json.dumps({"event": "start", "websocket_id": "one"}))
            saying = asyncio.create_task(say(line, path))
            listening = asyncio.create_task(listen(stream, words))
            async for message in line:
                told: dict[str, Any] = json.loads(message)
                if told.get("event") == "media":
                    coded = np.frombuffer(base64.b64decode(told["media"]["payload"]), np.uint8)
                    pcm = expand("mulaw", coded).astype(np.float64) / 32768
                    samples += len(pcm)
                    loudest = max(loudest, float(np.sqrt(np.mean(pcm**2))))
            await saying
            listening.cancel()
        server.should_exit = True
        await serving
    print(
        json.dumps({"words": "".join(words).strip(), "seconds": round(samples / RATE, 2), "loudest": round(loudest, 3)})
    )


async def listen(stream: Stream, words: list[str]) -> None:
    """Keep the agent's words, which come beside the audio."""
    async for output in stream.output_stream("one"):
        words += output.args


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
