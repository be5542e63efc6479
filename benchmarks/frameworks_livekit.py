"""One call by LiveKit agents to a duplex server, without a room: an `AgentSession` hears a recording.

Runs in an environment that has livekit-agents; `frameworks.py` starts it. Prints a JSON object of what was heard.

python benchmarks/frameworks_livekit.py CASE HOST:PORT RECORDING
"""

import asyncio
import json
import sys
import time
import wave
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession, llm, utils
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities

sys.path.append(str(Path(__file__).parents[1] / "examples"))

PIECE = 0.02
"""Seconds of a frame."""
SPEAKING = 0.3
"""Seconds after which an agent that is heard counts as speaking, and can be interrupted."""
INSTRUCTIONS = "You are a friendly person."


class Microphone(AudioInput):
    """A recording at the pace of a clock, then nothing but silence."""

    def __init__(self, path: str) -> None:
        super().__init__(label="recording")
        with wave.open(path) as file:
            self._rate, self._audio = file.getframerate(), file.readframes(file.getnframes())
        self._size = round(PIECE * self._rate)
        self._began = self._sent = 0.0
        self._said = False

    def speak(self) -> None:
        """Begin to say what is recorded."""
        self._said = True

    async def __anext__(self) -> rtc.AudioFrame:
        if not self._began:
            self._began = time.monotonic()
        self._sent += PIECE
        await asyncio.sleep(max(0.0, self._began + self._sent - time.monotonic()))
        data = b""
        if self._said:
            data, self._audio = self._audio[: self._size * 2], self._audio[self._size * 2 :]
        return rtc.AudioFrame(data.ljust(self._size * 2, b"\0"), self._rate, 1, self._size)


class Speaker(AudioOutput):
    """Counts what would be played; each segment counts as played when it has come."""

    def __init__(self) -> None:
        super().__init__(label="counter", capabilities=AudioOutputCapabilities(pause=False), sample_rate=24000)
        self.seconds = self._segment = 0.0
        self.loudest = 0.0
        self.played = asyncio.Event()
        """Set when something has been played."""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Play a frame."""
        await super().capture_frame(frame)
        if not self._segment:
            self.on_playback_started(created_at=time.time())
            self.played.set()
        self.seconds += frame.duration
        self._segment += frame.duration
        samples = np.frombuffer(frame.data, np.int16).astype(np.float64)
        self.loudest = max(self.loudest, float(np.sqrt(np.mean(samples**2))) / 32768)

    def flush(self) -> None:
        """End a segment."""
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        """Drop what has not been played."""
        self._finish(interrupted=True)

    def _finish(self, *, interrupted: bool) -> None:
        if self._segment:
            self.on_playback_finished(playback_position=self._segment, interrupted=interrupted)
            self._segment = 0.0


def model_of(case: str, host: str) -> llm.RealtimeModel | llm.DuplexModel:
    """Return the model that a case is about."""
    if case in ("livekit_duplex", "livekit_interrupt"):
        from livekit_duplex import DuplexModel  # noqa: PLC0415 -- each case needs packages of its own

        return DuplexModel(f"http://{host}/?persona=optional&temperature=0&text_temperature=0")
    if case == "personaplex":
        from livekit.plugins.nvidia.experimental.realtime import RealtimeModel  # noqa: PLC0415 -- as above

        return RealtimeModel(base_url=f"ws://{host}/personaplex", text_prompt=INSTRUCTIONS)
    from livekit.plugins.openai.realtime import GPTLiveModel  # noqa: PLC0415 -- as above

    return GPTLiveModel(model="tiny", base_url=f"http://{host}/v1", api_key="none", delegation="client")


async def main(case: str, host: str, path: str, pause: float = 0.0) -> None:
    """Ask, wait for the turn to end, and print it; `pause` is how long the microphone is switched off before that."""
    heard: list[str] = []
    turns: list[str] = []
    ended = asyncio.Event()
    speaker, microphone = Speaker(), Microphone(path)
    # PersonaPlex's session takes no order to answer, so nobody may take turns for it.
    manual = {"turn_handling": {"turn_detection": "manual"}} if case == "personaplex" else {}
    async with utils.http_context.open(), AgentSession(llm=model_of(case, host), **manual) as session:

        @session.on("conversation_item_added")
        def _(event) -> None:  # noqa: ANN001 -- LiveKit's
            if getattr(event.item, "role", "") == "assistant":
                turns.append(event.item.text_content or "")
                ended.set()

        @session.on("error")
        def _(event) -> None:  # noqa: ANN001 -- as above
            heard.append(str(event.error))

        session.input.audio, session.output.audio = microphone, speaker
        agent = Agent(instructions=INSTRUCTIONS)
        await session.start(agent)
        await asyncio.sleep(2)
        if pause:
            session.input.set_audio_enabled(False)
            await asyncio.sleep(pause)
            session.input.set_audio_enabled(True)
        began = time.monotonic()
        microphone.speak()
        if case == "livekit_interrupt":
            await speaker.played.wait()
            await asyncio.sleep(SPEAKING)
            await agent.duplex_session.interrupt()
        async with asyncio.timeout(30):
            await ended.wait()
        took = time.monotonic() - began
    told = {"words": " ".join(turns).strip(), "turns": len(turns), "seconds": round(speaker.seconds, 2)}
    print(json.dumps({**told, "loudest": round(speaker.loudest, 3), "ended_after": round(took, 1), "errors": heard}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(float, sys.argv[4:])))
