"""Full-duplex speech dialogue: conversations with models that listen and speak at the same time.

    import anyio, duplex

    async def main() -> None:
        with duplex.load("tiny") as model:
            async with duplex.Conversation(model, duplex.FileTransport("question.wav")) as conversation:
                async for event in conversation:
                    print(event)

    anyio.run(main)

``import duplex`` is quick: models, and the packages that run them, are imported when one is loaded.
"""

from duplex import errors
from duplex.conversation import Conversation, Recorder
from duplex.errors import *  # noqa: F403 -- the error tree is public, and listed there
from duplex.events import (
    AgentAudio,
    AgentSpeechStarted,
    AgentSpeechStopped,
    AgentText,
    EndReason,
    Event,
    Lag,
    SessionEnded,
    SessionStarted,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
)
from duplex.frame_model import (
    Codec,
    CodecSpec,
    CodecStream,
    Frame,
    FrameModel,
    ModelSpec,
    SessionOptions,
    SessionState,
    StepResult,
)
from duplex.model import Model, load, load_async, load_codec
from duplex.transport import Transport
from duplex.transports import FileTransport, MemoryTransport
from duplex.voice_activity import VoiceActivity

__version__ = "0.1.0"

__all__ = [
    "AgentAudio",
    "AgentSpeechStarted",
    "AgentSpeechStopped",
    "AgentText",
    "Codec",
    "CodecSpec",
    "CodecStream",
    "Conversation",
    "EndReason",
    "Event",
    "FileTransport",
    "Frame",
    "FrameModel",
    "Lag",
    "MemoryTransport",
    "Model",
    "ModelSpec",
    "Recorder",
    "SessionEnded",
    "SessionOptions",
    "SessionStarted",
    "SessionState",
    "StepResult",
    "Transport",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "VoiceActivity",
    "__version__",
    "load",
    "load_async",
    "load_codec",
    *errors.__all__,
]
