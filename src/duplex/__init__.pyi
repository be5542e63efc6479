from . import bench as bench
from . import measuring as measuring
from . import process as process
from . import scoring as scoring
from . import server as server
from . import testing as testing
from . import training as training
from .codec import (
    Codec as Codec,
)
from .codec import (
    CodecSpec as CodecSpec,
)
from .codec import (
    CodecStream as CodecStream,
)
from .conversation.dialogue import (
    Dialogue as Dialogue,
)
from .conversation.local import (
    Conversation as Conversation,
)
from .conversation.local import (
    Recorder as Recorder,
)
from .conversation.remote import (
    RemoteConversation as RemoteConversation,
)
from .conversation.remote import (
    connect as connect,
)
from .conversation.speaker import (
    Speaker as Speaker,
)
from .engine.loading import (
    load as load,
)
from .engine.loading import (
    load_async as load_async,
)
from .engine.loading import (
    load_codec as load_codec,
)
from .engine.model import (
    Model as Model,
)
from .errors import (
    AudioDeviceError as AudioDeviceError,
)
from .errors import (
    AudioError as AudioError,
)
from .errors import (
    AudioFileError as AudioFileError,
)
from .errors import (
    CapacityError as CapacityError,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    CheckpointNotFoundError as CheckpointNotFoundError,
)
from .errors import (
    ClosedError as ClosedError,
)
from .errors import (
    ClusterError as ClusterError,
)
from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    ConsumerTooSlow as ConsumerTooSlow,
)
from .errors import (
    CorpusError as CorpusError,
)
from .errors import (
    DuplexError as DuplexError,
)
from .errors import (
    ForkError as ForkError,
)
from .errors import (
    HubError as HubError,
)
from .errors import (
    MissingDependencyError as MissingDependencyError,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    ModelStalledError as ModelStalledError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    ServerError as ServerError,
)
from .errors import (
    StateError as StateError,
)
from .errors import (
    TrainingError as TrainingError,
)
from .errors import (
    UsageError as UsageError,
)
from .errors import (
    WeightsError as WeightsError,
)
from .events import (
    AgentAudio as AgentAudio,
)
from .events import (
    AgentSpeechStarted as AgentSpeechStarted,
)
from .events import (
    AgentSpeechStopped as AgentSpeechStopped,
)
from .events import (
    AgentText as AgentText,
)
from .events import (
    EndReason as EndReason,
)
from .events import (
    Event as Event,
)
from .events import (
    KeyPressed as KeyPressed,
)
from .events import (
    Lag as Lag,
)
from .events import (
    SessionEnded as SessionEnded,
)
from .events import (
    SessionStarted as SessionStarted,
)
from .events import (
    Usage as Usage,
)
from .events import (
    UserSpeechStarted as UserSpeechStarted,
)
from .events import (
    UserSpeechStopped as UserSpeechStopped,
)
from .events import (
    UserText as UserText,
)
from .frame_model import (
    Frame as Frame,
)
from .frame_model import (
    FrameModel as FrameModel,
)
from .frame_model import (
    ModelSpec as ModelSpec,
)
from .frame_model import (
    SessionState as SessionState,
)
from .frame_model import (
    StepResult as StepResult,
)
from .options import (
    SessionOptions as SessionOptions,
)
from .transcription.protocol import (
    Transcriber as Transcriber,
)
from .transcription.protocol import (
    Transcription as Transcription,
)
from .transcription.protocol import (
    Word as Word,
)
from .transcription.recognizer import (
    SttTranscriber as SttTranscriber,
)
from .transcription.whisper import (
    WhisperTranscriber as WhisperTranscriber,
)
from .transport import (
    Transport as Transport,
)
from .transports import (
    AudioDevice as AudioDevice,
)
from .transports import (
    FileTransport as FileTransport,
)
from .transports import (
    MemoryTransport as MemoryTransport,
)
from .transports import (
    MicrophoneStats as MicrophoneStats,
)
from .transports import (
    MicrophoneTransport as MicrophoneTransport,
)
from .voice_activity.protocol import (
    VoiceActivity as VoiceActivity,
)

__version__: str
