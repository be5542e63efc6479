"""Everything that can go wrong, as one tree.

::

    DuplexError
    ├── UsageError                  an argument or option that cannot be used as given
    ├── CapacityError               every place of the model is taken
    ├── MissingDependencyError      an optional package is not installed
    ├── CheckpointError             a checkpoint cannot be loaded
    │   ├── CheckpointNotFoundError no such built-in name, folder, file or repository
    │   ├── HubError                the hub is out of reach, slow, or refuses access
    │   ├── ConfigError             a configuration key is unknown, missing or has a value out of range
    │   └── WeightsError            a weights file is damaged or does not fit the configuration
    ├── AudioError                  audio that cannot be read, converted or written
    │   ├── AudioFileError          the same, of a named file
    │   └── AudioDeviceError        no such microphone or loudspeaker, or the system refuses it
    ├── StateError                  an exported session does not fit this model, or is damaged
    ├── ModelError                  the model failed while it was running
    │   └── ModelStalledError       a step of the model does not end
    ├── ConsumerTooSlow             the events of a live conversation were not read for too long
    ├── ClosedError                 the model, codec or conversation has been closed
    ├── ForkError                   the model, codec or conversation was made before the process was forked
    ├── ServerError                 a server cannot listen, or a remote conversation cannot go on
    ├── ClusterError                a cluster of machines is out of reach, has no room, or loses its workers
    ├── OutputError                 results cannot be written
    └── TrainingError               training cannot go on
        └── CorpusError             its data is missing, damaged or of another kind

Each message names the cause and says what to do next, in one line.
"""

__all__ = [
    "AudioDeviceError",
    "AudioError",
    "AudioFileError",
    "CapacityError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "ClosedError",
    "ClusterError",
    "ConfigError",
    "ConsumerTooSlow",
    "CorpusError",
    "DuplexError",
    "ForkError",
    "HubError",
    "MissingDependencyError",
    "ModelError",
    "ModelStalledError",
    "OutputError",
    "ServerError",
    "StateError",
    "TrainingError",
    "UsageError",
    "WeightsError",
]


class DuplexError(Exception):
    """Base of every error that this package raises for something a user can act on."""


class UsageError(DuplexError, ValueError):
    """An argument or option cannot be used as given."""


class CapacityError(DuplexError):
    """Every place of the model is taken by another conversation."""


class MissingDependencyError(DuplexError, ImportError):
    """An optional package is needed for what was asked; the message has the command that installs it."""


class CheckpointError(DuplexError):
    """A checkpoint cannot be loaded."""


class CheckpointNotFoundError(CheckpointError):
    """There is no built-in model, folder, file or repository of that name."""


class HubError(CheckpointError):
    """The hub is out of reach, too slow, or refuses access."""


class ConfigError(CheckpointError):
    """A configuration key is unknown, missing, or has a value that this package cannot run."""


class WeightsError(CheckpointError):
    """A weights file is damaged, or its tensors do not fit the configuration."""


class AudioError(DuplexError):
    """Audio cannot be read, converted or written."""


class AudioFileError(AudioError):
    """A named audio file cannot be read or written."""


class AudioDeviceError(AudioError):
    """A microphone or loudspeaker is not there, is refused by the system, or has gone."""


class StateError(DuplexError):
    """An exported session does not fit this model, or its bytes are damaged."""


class ModelError(DuplexError):
    """The model failed while it was running; the conversations in that step have ended."""


class ModelStalledError(ModelError):
    """A step of the model does not end: it is past a multiple of its usual duration, 10 seconds at least."""


class ConsumerTooSlow(DuplexError):  # noqa: N818 -- the contract fixes this name
    """The events of a live conversation were not read for more than 30 seconds."""


class ClosedError(DuplexError):
    """The model, codec or conversation has been closed."""


class ForkError(DuplexError):
    """The model, codec or conversation was made before this process was forked, and cannot be used in it."""


class ServerError(DuplexError):
    """A server cannot listen where it is told to, or a server elsewhere cannot be talked to."""


class ClusterError(DuplexError):
    """A cluster of machines cannot be reached, has no room, or loses what it was given."""


class OutputError(DuplexError):
    """Results cannot be written: the folder is read-only, full, or holds something else."""


class TrainingError(DuplexError):
    """Training cannot begin or go on: its folder holds another run, or what it computes is no longer finite."""


class CorpusError(TrainingError):
    """The data to train on is missing, damaged, silent, or of another kind."""
