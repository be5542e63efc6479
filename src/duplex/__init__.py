"""Full-duplex speech dialogue: conversations with models that listen and speak at the same time.

::

    import anyio, duplex

    async def main() -> None:
        with duplex.load("tiny") as model:
            async with duplex.Conversation(model, duplex.FileTransport("question.wav")) as conversation:
                async for event in conversation:
                    print(event)

    anyio.run(main)

``import duplex`` itself costs nothing: a name is imported from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duplex.codec import Codec, CodecSpec, CodecStream
    from duplex.conversation import (
        Conversation,
        Recorder,
    )
    from duplex.errors import (
        AudioError,
        AudioFileError,
        CapacityError,
        CheckpointError,
        CheckpointNotFoundError,
        ClosedError,
        ConfigError,
        ConsumerTooSlow,
        CorpusError,
        DuplexError,
        HubError,
        MissingDependencyError,
        ModelError,
        OutputError,
        ServerError,
        StateError,
        TrainingError,
        UsageError,
        WeightsError,
    )
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
    from duplex.frame_model import Frame, FrameModel, ModelSpec, SessionState, StepResult
    from duplex.model import (
        Model,
        load,
        load_async,
        load_codec,
    )
    from duplex.options import SessionOptions
    from duplex.remote import (
        RemoteConversation,
        connect,
    )
    from duplex.transport import (
        Transport,
    )
    from duplex.transports import (
        FileTransport,
        MemoryTransport,
    )
    from duplex.voice_activity import (
        VoiceActivity,
    )

__version__ = "0.1.0"

__all__ = [
    "AgentAudio",
    "AgentSpeechStarted",
    "AgentSpeechStopped",
    "AgentText",
    "AudioError",
    "AudioFileError",
    "CapacityError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "ClosedError",
    "Codec",
    "CodecSpec",
    "CodecStream",
    "ConfigError",
    "ConsumerTooSlow",
    "Conversation",
    "CorpusError",
    "DuplexError",
    "EndReason",
    "Event",
    "FileTransport",
    "Frame",
    "FrameModel",
    "HubError",
    "Lag",
    "MemoryTransport",
    "MissingDependencyError",
    "Model",
    "ModelError",
    "ModelSpec",
    "OutputError",
    "Recorder",
    "RemoteConversation",
    "ServerError",
    "SessionEnded",
    "SessionOptions",
    "SessionStarted",
    "SessionState",
    "StateError",
    "StepResult",
    "TrainingError",
    "Transport",
    "Usage",
    "UsageError",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "VoiceActivity",
    "WeightsError",
    "__version__",
    "connect",
    "load",
    "load_async",
    "load_codec",
]

_HOMES = {
    "codec": [
        "Codec",
        "CodecSpec",
        "CodecStream",
    ],
    "conversation": [
        "Conversation",
        "Recorder",
    ],
    "errors": [
        "AudioError",
        "AudioFileError",
        "CapacityError",
        "CheckpointError",
        "CheckpointNotFoundError",
        "ClosedError",
        "ConfigError",
        "ConsumerTooSlow",
        "CorpusError",
        "DuplexError",
        "HubError",
        "MissingDependencyError",
        "ModelError",
        "OutputError",
        "ServerError",
        "StateError",
        "TrainingError",
        "UsageError",
        "WeightsError",
    ],
    "events": [
        "AgentAudio",
        "AgentSpeechStarted",
        "AgentSpeechStopped",
        "AgentText",
        "EndReason",
        "Event",
        "Lag",
        "SessionEnded",
        "SessionStarted",
        "Usage",
        "UserSpeechStarted",
        "UserSpeechStopped",
    ],
    "frame_model": [
        "Frame",
        "FrameModel",
        "ModelSpec",
        "SessionState",
        "StepResult",
    ],
    "model": [
        "Model",
        "load",
        "load_async",
        "load_codec",
    ],
    "options": [
        "SessionOptions",
    ],
    "remote": [
        "RemoteConversation",
        "connect",
    ],
    "transport": [
        "Transport",
    ],
    "transports": [
        "FileTransport",
        "MemoryTransport",
    ],
    "voice_activity": [
        "VoiceActivity",
    ],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module, once."""
    if name not in _HOME:
        raise AttributeError(f"module 'duplex' has no attribute {name!r}")
    value = getattr(import_module(f"duplex.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
