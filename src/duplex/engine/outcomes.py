"""What a seat gives its conversation beside frames: what was skipped, exported, has ended or failed."""

import attrs

from duplex.frame_model import Frame, SessionState

__all__ = ["Exported", "Failed", "Finished", "Outcome", "ScriptProgress", "Skipped"]


@attrs.frozen
class Skipped:
    """User frames that the model did not process, ``seconds`` of audio from ``at`` on."""

    at: float
    behind: float
    seconds: float


@attrs.frozen
class Finished:
    """The last user frame has been processed."""


@attrs.frozen
class Failed:
    """The model raised; nothing more comes from this seat."""

    error: Exception


@attrs.frozen
class ScriptProgress:
    """How far a model of synthesis has come after a step: entries taken, words begun, and the step of the end or -1."""

    entries: int
    words: int
    end: int


@attrs.frozen(eq=False)
class Exported:
    """The slot's state between the results before this one and those after it, or why it could not be exported."""

    state: SessionState | Exception


Outcome = Frame | Skipped | Finished | Failed | Exported | ScriptProgress
