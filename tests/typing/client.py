"""A client in strict types: every public class, every event, and no Any. Type checked by test_typing.py, never run."""

from typing import assert_never

import anyio
import numpy as np
from numpy.typing import NDArray

import duplex

Pcm = NDArray[np.float32]
FAILURES: tuple[type[duplex.DuplexError], ...] = (
    *(duplex.UsageError, duplex.CapacityError, duplex.MissingDependencyError, duplex.ConsumerTooSlow),
    *(duplex.CheckpointError, duplex.CheckpointNotFoundError, duplex.HubError, duplex.ConfigError, duplex.WeightsError),
    *(duplex.AudioError, duplex.AudioFileError, duplex.StateError, duplex.ModelError, duplex.ClosedError),
    *(duplex.ModelStalledError, duplex.ForkError, duplex.AudioDeviceError),
    *(duplex.ServerError, duplex.OutputError, duplex.TrainingError, duplex.CorpusError),
    duplex.ClusterError,
)


class Log:
    def __init__(self) -> None:
        self.user: list[Pcm] = []

    def record(self, frame: duplex.Frame) -> None:
        self.user.append(frame.user_pcm)


def describe(event: duplex.Event) -> str:  # noqa: C901, PLR0911 -- a case each
    match event:
        case duplex.SessionStarted(session_id=name, seed=seed):
            return f"{name} {seed}"
        case duplex.AgentAudio(pcm=pcm):
            return f"{float(pcm.max()):.1f}"
        case duplex.AgentText(text=text, token=token):
            return text + str(token)
        case duplex.UserSpeechStarted(probability=probability) | duplex.UserSpeechStopped(probability=probability):
            return f"{probability:.2f}"
        case duplex.UserText(text=text, start=start, end=end):
            return f"{text} {end - start:.2f}"
        case duplex.AgentSpeechStarted() | duplex.AgentSpeechStopped():
            return f"{event.sequence} {event.at}"
        case duplex.KeyPressed(key=key):
            return key
        case duplex.Lag(behind=behind, dropped=dropped, side=side):
            return f"{side} {behind + dropped}"
        case duplex.SessionEnded(reason=duplex.EndReason.FINISHED, usage=duplex.Usage(seconds=seconds)):
            return f"{seconds}"
        case duplex.SessionEnded(reason=reason):
            return reason.value
        case _:
            assert_never(event)


async def listen(dialogue: duplex.Dialogue, pcm: Pcm | bytes) -> list[str]:
    async with dialogue:
        return [f"{describe(event)} {event.as_dict()}" async for event in dialogue.run(pcm)]


def advance(frames: duplex.FrameModel, pcm: Pcm) -> tuple[duplex.StepResult, duplex.SessionState, duplex.ModelSpec]:
    return frames.step(pcm, np.ones(1, np.bool_)), frames.export(0), frames.spec


def encode(codec: duplex.Codec, pcm: Pcm) -> tuple[duplex.CodecSpec, NDArray[np.int64]]:
    stream: duplex.CodecStream = codec.stream()
    return codec.spec, stream.encode(pcm)


def listen_to(transcriber: duplex.Transcriber) -> tuple[duplex.Transcription, list[duplex.Word]]:
    return transcriber.open(24000, realtime=False), [duplex.Word("hello", 0.0, 0.4)]


async def say(model: duplex.Model) -> list[str]:
    async with duplex.Speaker(model, voice=["her", "him"]) as speaker:
        return [describe(event) async for event in speaker.say(["Hello.", "Good morning."])]


async def main(detector: duplex.VoiceActivity, line: duplex.Transport, pcm: Pcm) -> None:
    options = duplex.SessionOptions(seed=7, temperature=0.8, adapter="mine")
    model: duplex.Model = await duplex.load_async("tiny", backend="torch", dtype="float32", quantize="int8")
    with model, duplex.load(cache_dtype="auto", sessions=2) as other:
        recorder: duplex.Recorder = Log()
        async with duplex.Conversation(model, line, options=options, recorder=recorder) as conversation:
            saved: bytes = await conversation.export()
        await listen(duplex.Conversation(other, state=saved, wait=1.0), pcm)
        listen_to(duplex.WhisperTranscriber("tiny.en"))
        await listen(duplex.Conversation(other, transcriber=duplex.SttTranscriber(model)), pcm)
        await say(model)
        advance(model.frame_model, pcm)
        encode(model.codec if model.free else duplex.load_codec("tiny", device="cpu"), pcm)
    transports: list[duplex.Transport] = [duplex.FileTransport("question.wav"), duplex.MemoryTransport(pcm)]
    microphone = duplex.MicrophoneTransport(input="headset", echo_cancellation="webrtc")
    transports.append(microphone)
    levels: duplex.MicrophoneStats = microphone.stats
    devices: list[duplex.AudioDevice] = []
    print(levels.echo_reduction, devices)  # noqa: T201
    remote: duplex.RemoteConversation = duplex.connect("https://example.org", transports[0], on_lost="end")
    async with remote, anyio.create_task_group() as tasks:
        tasks.start_soon(remote.send, pcm)
        await remote.finish()
    print(model, detector.window, duplex.__version__, FAILURES)  # noqa: T201
