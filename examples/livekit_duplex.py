"""A model on a duplex server as the model of a LiveKit agent: a `DuplexModel` for livekit-agents 1.8.9.

    session = AgentSession(llm=DuplexModel("http://127.0.0.1:8998"))

It listens and speaks at the same time: every frame of the room's audio goes to the server, every frame of the agent's
comes back, and the model itself decides who holds the floor. The model runs in `duplex serve`, so that an agent's
process needs no PyTorch: `pip install "duplex-speech[client]" livekit-agents`.

With a LiveKit server in LIVEKIT_URL: python examples/livekit_duplex.py dev
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterable
from typing import Literal

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectionError, llm, utils
from livekit.agents.types import NOT_GIVEN, NotGivenOr

import duplex

RATE = 24000
QUIET = 5.0
"""Seconds without audio, from a muted microphone, after which a frame of silence tells that somebody is there."""
SILENCE = bytes(1920 * 2)
"""A whole frame: of less, nothing would be sent."""
SILENCE_RMS = 10 ** (-45 / 20) / 3
"""A third of the level above which an agent speaks: LiveKit opens its gate at three times this."""
PAUSE = 0.4
"""Seconds of silence that end the agent's speech."""


class DuplexModel(llm.DuplexModel):
    """A model on a server; `url` is that of its page, perhaps with what a call may ask for in the query.

    An agent's instructions reach a model that takes them. One that does not refuses the call, unless the query says
    `persona=optional`. `transcribed` tells that the server writes down what the user says.
    """

    def __init__(
        self, url: str, *, token: str | None = None, voice: str | None = None, transcribed: bool = False
    ) -> None:
        super().__init__(
            capabilities=llm.DuplexCapabilities(user_transcription=transcribed, auto_tool_reply_generation=False)
        )
        self.url, self.token, self.voice = url, token, voice

    @property
    def provider(self) -> str:
        """Who runs it."""
        return "duplex"

    def audio_gate(self) -> llm.FixedGate:
        """Return what tells the agent's speech from its silence."""
        return llm.FixedGate(SILENCE_RMS, min_silence_duration=PAUSE)

    def session(self) -> "DuplexSession":
        """Begin a conversation."""
        return DuplexSession(self)

    async def aclose(self) -> None:
        """Nothing is shared by sessions."""


class DuplexSession(llm.DuplexSession[Literal["duplex_event"]]):
    """One conversation; "duplex_event" tells each of its events but audio."""

    def __init__(self, model: DuplexModel) -> None:
        super().__init__(model)
        self._model = model
        self._instructions: str | None = None
        self._heard = utils.aio.Chan[bytes]()
        self._said = utils.aio.Chan[llm.DuplexAudioFrame]()
        self._resampler: rtc.AudioResampler
        self._input_rate = RATE
        """That the resampler takes."""
        self._conversation: duplex.RemoteConversation | None = None
        self._task = asyncio.create_task(self._run(), name="DuplexSession")

    @property
    def audio_stream(self) -> AsyncIterable[llm.DuplexAudioFrame]:
        """The agent's frames, silent ones too."""
        return self._said

    @property
    def tools(self) -> llm.ToolContext:
        """None: these models call no functions."""
        return llm.ToolContext.empty()

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Take what the user says, at any rate."""
        if self._conversation is None:  # nobody hears it yet, and what comes late is dropped
            return
        if frame.sample_rate not in (RATE, self._input_rate):
            self._input_rate = frame.sample_rate
            self._resampler = rtc.AudioResampler(frame.sample_rate, RATE, num_channels=frame.num_channels)
        for piece in [frame] if frame.sample_rate == RATE else self._resampler.push(frame):
            samples = np.frombuffer(piece.data, np.int16).reshape(-1, piece.num_channels)
            with contextlib.suppress(utils.aio.ChanClosed):
                self._heard.send_nowait(samples.mean(axis=1).astype(np.int16).tobytes())

    async def interrupt(self) -> None:
        """Silence the agent for the rest of what it is saying; agents reach this by `Agent.duplex_session`."""
        if self._conversation is not None:
            await self._conversation.interrupt()

    async def aclose(self) -> None:
        """Hang up."""
        await super().aclose()
        self._heard.close()
        await utils.aio.cancel_and_wait(self._task)

    async def _run(self) -> None:
        try:
            await self._configured.wait()
            if not self._closing:
                await self._converse()
        except duplex.DuplexError as error:
            failure = APIConnectionError(str(error), retryable=False)
            label = self._model.label
            self.emit(
                "error",
                llm.RealtimeModelError(timestamp=time.time(), label=label, error=failure, recoverable=False),
            )
        finally:
            self._conversation = None
            self._said.close()

    async def _converse(self) -> None:
        options = duplex.SessionOptions(instructions=self._instructions, voice=self._model.voice)
        async with duplex.connect(self._model.url, options=options, token=self._model.token) as conversation:
            speaking = asyncio.create_task(self._speak(conversation), name="DuplexSession.speak")
            try:
                async for event in conversation:
                    self._conversation = conversation
                    self._tell(event)
            finally:
                await utils.aio.cancel_and_wait(speaking)

    async def _speak(self, conversation: duplex.RemoteConversation) -> None:
        """Send what is heard; a server takes who sends nothing for long to be gone."""
        while True:
            try:
                pcm = await asyncio.wait_for(self._heard.recv(), QUIET)
            except TimeoutError:
                pcm = SILENCE
            except utils.aio.ChanClosed:
                return
            await conversation.send(pcm)

    def _tell(self, event: duplex.Event) -> None:
        """Tell LiveKit of an event, in its words."""
        if isinstance(event, duplex.AgentAudio):
            self._said.send_nowait(llm.DuplexAudioFrame(frame=_frame(event.pcm), start_ms=round(event.at * 1000)))
            return
        self.emit("duplex_event", event)
        match event:
            case duplex.AgentText(text=text, at=at):
                self.emit("transcript_delta", llm.DuplexOutputTranscriptDelta(text, start_ms=round(at * 1000)))
            case duplex.UserSpeechStarted():
                self.emit("input_speech_started", llm.InputSpeechStartedEvent())
            case duplex.UserSpeechStopped():
                transcribed = self.capabilities.user_transcription
                self.emit("input_speech_stopped", llm.InputSpeechStoppedEvent(user_transcription_enabled=transcribed))
            case duplex.UserText(text=text):
                said = llm.InputTranscriptionCompleted(item_id=utils.shortuuid("said_"), transcript=text, is_final=True)
                self.emit("input_audio_transcription_completed", said)
            case _:
                pass

    async def _update_instructions(self, instructions: str) -> None:
        if self._conversation is not None and instructions != self._instructions:
            raise llm.RealtimeError("instructions come before a conversation; these models take none later")
        self._instructions = instructions.strip() or None

    async def _append_items(self, items: list[llm.ChatItem]) -> None:
        """Do nothing: these models hear sound alone, neither text nor what was said before."""

    async def _update_tools(self, tools: list[llm.Tool]) -> None:
        if tools:
            raise llm.RealtimeError("these models call no functions; leave the agent's tools out")

    def _update_options(self, *, tool_choice: NotGivenOr[llm.ToolChoice | None] = NOT_GIVEN) -> None:
        """There is nothing to choose."""


def _frame(pcm: np.ndarray) -> rtc.AudioFrame:
    """Return a frame of LiveKit's from float32 `[samples]`."""
    samples = (pcm.clip(-1, 1) * 32767).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), sample_rate=RATE, num_channels=1, samples_per_channel=len(samples))


if __name__ == "__main__":
    from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli

    server = AgentServer()

    @server.rtc_session()
    async def entrypoint(context: JobContext) -> None:
        """Talk to whoever is in the room."""
        model = DuplexModel(os.environ.get("DUPLEX_URL", "http://127.0.0.1:8998/?persona=optional"))
        await AgentSession(llm=model).start(Agent(instructions="You are kind."), room=context.room)

    cli.run_app(server)
