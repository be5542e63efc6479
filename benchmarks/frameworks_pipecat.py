"""One call by a pipecat pipeline to a duplex server: a service hears a recording.

Runs in an environment that has pipecat-ai; `frameworks.py` starts it. Prints a JSON object of what was heard.

python benchmarks/frameworks_pipecat.py CASE HOST:PORT RECORDING
"""

import asyncio
import json
import sys
import time
import wave
from pathlib import Path

import numpy as np
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    OutputAudioRawFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

sys.path.append(str(Path(__file__).parents[1] / "examples"))

PIECE = 0.02
"""Seconds of a frame."""
ANSWER = 6.0
"""Seconds of silence after the question."""
WARM_UP = 2.0
AUDIBLE = 0.01
"""Level, of 1, of an agent that speaks."""
SPEAKING = 0.3
"""Seconds after which it counts as speaking, and can be interrupted."""
GREEDY = "temperature=0&text_temperature=0"
INSTRUCTIONS = "You are a friendly person."


class Heard(FrameProcessor):
    """Notes what comes out of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.seconds = self.audible = self.loudest = 0.0
        self.user: list[str] = []
        self.errors: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note a frame and pass it on."""
        await super().process_frame(frame, direction)
        match frame:
            case TTSTextFrame(text=text):
                self.words += text
            case OutputAudioRawFrame(audio=audio, sample_rate=rate):
                samples = np.frombuffer(audio, np.int16).astype(np.float64)
                self.seconds += len(samples) / rate
                level = float(np.sqrt(np.mean(samples**2))) / 32768
                self.loudest = max(self.loudest, level)
                self.audible += len(samples) / rate if level > AUDIBLE else 0.0
            case UserStartedSpeakingFrame() | UserStoppedSpeakingFrame() | BotStoppedSpeakingFrame():
                self.user.append(type(frame).__name__)
            case ErrorFrame(error=error):
                self.errors.append(str(error))
            case _:
                pass
        await self.push_frame(frame, direction)


def service_of(case: str, host: str) -> FrameProcessor:
    """Return the service that a case is about."""
    if case in ("pipecat_duplex", "pipecat_interrupt"):
        import duplex  # noqa: PLC0415 -- as above
        from pipecat_duplex import DuplexService  # noqa: PLC0415 -- each case needs packages of its own

        return DuplexService(duplex.connect(f"http://{host}/?{GREEDY}"))
    from pipecat.services.openai.live.llm import OpenAILiveLLMService  # noqa: PLC0415 -- as above

    settings = OpenAILiveLLMService.Settings(model="tiny", system_instruction=INSTRUCTIONS, voice="marin")
    return OpenAILiveLLMService(api_key="none", base_url=f"ws://{host}/v1/live/sessions", settings=settings)


async def main(case: str, host: str, path: str, pause: float = 0.0) -> None:
    """Ask, hear the answer and print it; `pause` is how long nothing is sent before that."""
    with wave.open(path) as file:
        rate, audio = file.getframerate(), file.readframes(file.getnframes())
    size = round(PIECE * rate) * 2
    audio = bytes(round(WARM_UP * rate) * 2) + audio + bytes(round(ANSWER * rate) * 2)
    before, heard = Heard(), Heard()
    worker = PipelineWorker(Pipeline([before, service_of(case, host), heard]))
    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await worker.queue_frame(LLMContextFrame(LLMContext()))
    await asyncio.sleep(1 + pause)
    began, interrupted = time.monotonic(), case != "pipecat_interrupt"
    for number, start in enumerate(range(0, len(audio), size)):
        await asyncio.sleep(max(0.0, began + number * PIECE - time.monotonic()))
        piece = audio[start : start + size]
        await worker.queue_frame(InputAudioRawFrame(piece, sample_rate=rate, num_channels=1))
        if heard.audible > SPEAKING and not interrupted:
            interrupted = True
            await worker.queue_frame(InterruptionFrame())
    ended = time.monotonic()
    await worker.queue_frame(EndFrame())
    await running
    told = {"words": heard.words.strip(), "seconds": round(heard.seconds, 2), "loudest": round(heard.loudest, 3)}
    told |= {"user": heard.user, "closed_after": round(time.monotonic() - ended, 1)}
    print(json.dumps({**told, "errors": before.errors + heard.errors}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(float, sys.argv[4:])))
