"""pipecat's service for OpenAI Realtime against a server's ``/v1/realtime``: ask, and print what was said.

Run it in an environment of its own (``pip install 'pipecat-ai[openai]'``)::

    python pipecat_realtime.py --url ws://127.0.0.1:8998/v1/realtime --file examples/question.wav --expect Paris

It exits with 0 if all that is expected was said.
"""

import argparse
import asyncio
import json
import sys
import wave
from collections import Counter

from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, InputAudioRawFrame, TTSAudioRawFrame, TTSTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

PIECE_SECONDS = 0.02
KINDS = (
    "TTSStartedFrame",
    "TTSStoppedFrame",
    "LLMFullResponseStartFrame",
    "LLMFullResponseEndFrame",
    "ProposedUserStartedSpeakingFrame",
)


class Listener(FrameProcessor):
    """Notes what comes out of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.seconds = 0.0
        self.told: Counter[str] = Counter()
        self.errors: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take a frame, and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self.words += frame.text
        elif isinstance(frame, TTSAudioRawFrame):
            self.seconds += len(frame.audio) / 2 / frame.sample_rate
        elif type(frame).__name__ in KINDS:
            self.told[type(frame).__name__] += 1
        await self.push_frame(frame, direction)


async def talk(task: PipelineTask, path: str, seconds: float) -> None:
    """Send a recording and then silence, at the pace of a clock; then end."""
    with wave.open(path) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    size = 2 * round(rate * PIECE_SECONDS)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(round(seconds / PIECE_SECONDS)):
        piece = samples[number * size : (number + 1) * size].ljust(size, b"\0")
        await task.queue_frame(InputAudioRawFrame(piece, rate, 1))
        await asyncio.sleep(max(0.0, began + (number + 1) * PIECE_SECONDS - loop.time()))
    await task.queue_frame(EndFrame())


async def main() -> None:
    """Ask, listen, and say whether it was right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="ws://127.0.0.1:8998/v1/realtime")
    parser.add_argument("--key", default="no-token-is-wanted")
    parser.add_argument("--file", default="examples/question.wav")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--expect", action="append", default=[])
    given = parser.parse_args()
    settings = OpenAIRealtimeLLMService.Settings(system_instruction="Be kind.")
    service = OpenAIRealtimeLLMService(api_key=given.key, base_url=given.url, settings=settings)
    listener = Listener()
    parameters = PipelineParams(audio_in_sample_rate=24000, audio_out_sample_rate=24000)
    task = PipelineTask(Pipeline([service, listener]), params=parameters)

    @task.event_handler("on_pipeline_error")
    async def _(_: PipelineTask, frame: ErrorFrame) -> None:
        listener.errors.append(frame.error)

    talking = asyncio.create_task(talk(task, given.file, given.seconds))
    await PipelineRunner(handle_sigint=False).run(task)
    await talking
    missing = [word for word in given.expect if word not in listener.words]
    told = {"words": listener.words, "seconds": round(listener.seconds, 2), **listener.told}
    print(json.dumps({**told, "missing": missing, "errors": listener.errors}))
    sys.exit(1 if missing or listener.errors or not listener.seconds else 0)


asyncio.run(main())
