"""LiveKit's ``RealtimeModel`` against a server's ``/v1/realtime``: ask, and print what was said.

Run it in an environment of its own (``pip install livekit-agents livekit-plugins-openai``)::

    python livekit_realtime.py --url http://127.0.0.1:8998/v1 --file examples/question.wav --expect Paris

It exits with 0 if all that is expected was said.
"""

import argparse
import asyncio
import json
import sys
import wave

from livekit import rtc
from livekit.agents import llm
from livekit.plugins import openai

PIECE_SECONDS = 0.05


class Listener:
    """What a session has told."""

    def __init__(self, session: llm.RealtimeSession) -> None:
        self.words = ""
        self.seconds = 0.0
        self.told: dict[str, int] = {}
        self.errors: list[str] = []
        self._reading: set[asyncio.Task[None]] = set()
        session.on("generation_created", self._hear)
        session.on("error", lambda error: self.errors.append(repr(error)))
        for kind in ("input_speech_started", "input_speech_stopped", "remote_item_added"):
            session.on(kind, lambda *_, kind=kind: self.told.update({kind: self.told.get(kind, 0) + 1}))

    def _hear(self, generation: llm.GenerationCreatedEvent) -> None:
        self.told["generation_created"] = self.told.get("generation_created", 0) + 1
        task = asyncio.create_task(self._read(generation))
        self._reading.add(task)

    async def _read(self, generation: llm.GenerationCreatedEvent) -> None:
        async for message in generation.message_stream:
            await asyncio.gather(self._read_text(message), self._read_audio(message))
        self.told["generation_done"] = self.told.get("generation_done", 0) + 1

    async def _read_text(self, message: llm.MessageGeneration) -> None:
        async for piece in message.text_stream:
            self.words += str(piece)

    async def _read_audio(self, message: llm.MessageGeneration) -> None:
        async for frame in message.audio_stream:
            self.seconds += frame.duration


async def talk(session: llm.RealtimeSession, path: str, seconds: float) -> None:
    """Send a recording and then silence, at the pace of a clock."""
    with wave.open(path) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    size = 2 * round(rate * PIECE_SECONDS)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(round(seconds / PIECE_SECONDS)):
        piece = samples[number * size : (number + 1) * size].ljust(size, b"\0")
        session.push_audio(rtc.AudioFrame(piece, rate, 1, size // 2))
        await asyncio.sleep(max(0.0, began + (number + 1) * PIECE_SECONDS - loop.time()))


async def main() -> None:
    """Ask, listen, and say whether it was right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8998/v1")
    parser.add_argument("--key", default="no-token-is-wanted")
    parser.add_argument("--file", default="examples/question.wav")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--expect", action="append", default=[])
    parser.add_argument("--reply", action="store_true", help="claim the answer by generate_reply()")
    given = parser.parse_args()
    session = openai.realtime.RealtimeModel(base_url=given.url, api_key=given.key).session()
    listener = Listener(session)
    await session.update_instructions("Be kind.")
    await session.update_tools([])
    context = llm.ChatContext()
    context.add_message(role="user", content="Good morning!")
    await session.update_chat_ctx(context)
    reply = session.generate_reply() if given.reply else None
    await talk(session, given.file, given.seconds)
    claimed = None if reply is None else (await reply).user_initiated
    await session.aclose()
    missing = [word for word in given.expect if word not in listener.words]
    told = {"words": listener.words, "seconds": round(listener.seconds, 2), "claimed": claimed, **listener.told}
    print(json.dumps({**told, "missing": missing, "errors": listener.errors}))
    sys.exit(1 if missing or listener.errors or not listener.seconds else 0)


asyncio.run(main())
