"""A duplex conversation as a service of a pipecat pipeline, for pipecat 1.14.

    Pipeline([transport.input(), DuplexService(duplex.connect("http://127.0.0.1:8998")), transport.output()])

`InputAudioRawFrame`s go in. Out come the agent's audio, every frame of it, silent ones too, as
`SpeechOutputAudioRawFrame`s; its words as `LLMTextFrame` and `TTSTextFrame`; the user's turns as
`UserStartedSpeakingFrame` and `UserStoppedSpeakingFrame`; what the user said as `TranscriptionFrame`. The model decides
itself who holds the floor, so nothing here interrupts the agent; an `InterruptionFrame` of somebody else does.

python examples/pipecat_duplex.py question.wav
"""

import asyncio
import sys
import wave
from pathlib import Path

import numpy as np
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeechOutputAudioRawFrame,
    StartFrame,
    TextType,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

import duplex

RATE = 24000
QUIET = 4.0
"""Seconds without audio, from a muted microphone, after which a tenth of a second of silence tells that somebody is
there: more than a frame, as of less nothing would be sent."""
DELAY = 8.0
"""Seconds that the program gives the agent to answer."""


class DuplexService(AIService):
    """A conversation, local or remote, that has not been entered and hears no transport of its own.

    It begins with the pipeline and ends with it. `sample_rate` is that at which the dialogue takes audio.
    """

    def __init__(self, dialogue: duplex.Dialogue, *, sample_rate: int = RATE) -> None:
        super().__init__(settings=ServiceSettings(model="duplex"))
        self._dialogue = dialogue
        self._sample_rate = sample_rate
        self._resampler = create_stream_resampler()
        self._tasks: list[asyncio.Task[None]] = []
        self._began = False
        self._heard = False
        """Whether audio has come lately."""

    async def start(self, frame: StartFrame) -> None:
        """Begin the conversation."""
        await super().start(frame)
        await self._dialogue.__aenter__()
        self._tasks = [self.create_task(self._talk(), "conversation"), self.create_task(self._stay(), "silence")]

    async def stop(self, frame: EndFrame) -> None:
        """End it with the pipeline."""
        await super().stop(frame)
        await self._hang_up()

    async def cancel(self, frame: CancelFrame) -> None:
        """End it at once."""
        await super().cancel(frame)
        await self._hang_up()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Let the model hear the user, and pass everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            await self._hear(frame)
        elif isinstance(frame, InterruptionFrame) and self._began:
            await self._dialogue.interrupt()
        await self.push_frame(frame, direction)

    async def _hang_up(self) -> None:
        tasks, self._tasks, self._began = self._tasks, [], False
        for task in tasks:
            await self.cancel_task(task)
        await self._dialogue.aclose()

    async def _hear(self, frame: InputAudioRawFrame) -> None:
        if not self._began:  # nobody hears it yet, and what comes late is dropped
            return
        samples = np.frombuffer(frame.audio, np.int16).reshape(-1, frame.num_channels)
        pcm = samples.mean(axis=1).astype(np.int16).tobytes()
        if frame.sample_rate != self._sample_rate:
            pcm = await self._resampler.resample(pcm, frame.sample_rate, self._sample_rate)
        self._heard = True
        await self._send(pcm)

    async def _send(self, pcm: bytes) -> None:
        try:
            await self._dialogue.send(pcm)
        except duplex.ClosedError:  # the server has ended it, which has been told
            self._began = False

    async def _stay(self) -> None:
        while True:
            await asyncio.sleep(QUIET)
            if self._began and not self._heard:
                await self._send(bytes(self._sample_rate // 10 * 2))
            self._heard = False

    async def _talk(self) -> None:
        rate = RATE
        try:
            async for event in self._dialogue:
                match event:
                    case duplex.SessionStarted(sample_rate=rate):
                        self._began = True
                    case duplex.AgentAudio(pcm=pcm):
                        audio = (pcm.clip(-1, 1) * 32767).astype("<i2").tobytes()
                        await self.push_frame(SpeechOutputAudioRawFrame(audio, sample_rate=rate, num_channels=1))
                    case _:
                        await self._tell(event)
        except duplex.DuplexError as error:
            await self.push_error(error_msg=str(error), exception=error, force_treat_as_permanent=True)
        finally:
            self._began = False

    async def _tell(self, event: duplex.Event) -> None:
        """Tell the pipeline of an event, in its words."""
        match event:
            case duplex.AgentSpeechStarted():
                await self.push_frame(LLMFullResponseStartFrame())
                await self.push_frame(TTSStartedFrame())
            case duplex.AgentText(text=text):
                await self._say(text)
            case duplex.AgentSpeechStopped():
                await self.push_frame(TTSStoppedFrame())
                await self.push_frame(LLMFullResponseEndFrame())
            case duplex.UserSpeechStarted():
                await self.broadcast_frame(UserStartedSpeakingFrame)
            case duplex.UserSpeechStopped():
                await self.broadcast_frame(UserStoppedSpeakingFrame)
            case duplex.UserText(text=text):
                await self.push_frame(TranscriptionFrame(text, user_id="", timestamp=time_now_iso8601()))
            case _:
                pass

    async def _say(self, text: str) -> None:
        """Push words once for who shows them and once for who remembers them, as pipecat's own services do."""
        shown = LLMTextFrame(text)
        shown.append_to_context = False
        said = TTSTextFrame(text, text_type=TextType.SENTENCE)
        said.includes_inter_frame_spaces = True
        await self.push_frame(shown)
        await self.push_frame(said)


class Printer(FrameProcessor):
    """Prints what comes out, but audio."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Print a frame and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame | UserStartedSpeakingFrame | UserStoppedSpeakingFrame):
            print(getattr(frame, "text", type(frame).__name__))
        await self.push_frame(frame, direction)


async def main(path: Path, url: str = "http://127.0.0.1:8998") -> None:
    """Play a recording (16 bit) to a server, at the pace of a clock, and print what comes out."""
    with wave.open(str(path)) as file:
        rate, channels, audio = file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())
    size = rate // 50 * channels * 2
    silence = bytes(size) * round(DELAY / 0.02)
    worker = PipelineWorker(Pipeline([DuplexService(duplex.connect(url)), Printer()]))
    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(1)
    for start in range(0, len(audio + silence), size):
        piece = (audio + silence)[start : start + size]
        await worker.queue_frame(InputAudioRawFrame(piece, sample_rate=rate, num_channels=channels))
        await asyncio.sleep(0.02)
    await worker.queue_frame(EndFrame())
    await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
