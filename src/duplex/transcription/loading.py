"""From a name to a transcriber, as commands take it: ``whisper:NAME``, or the name of a recognition model."""

import contextlib
from collections.abc import Generator

from duplex.checkpoints import checkpoint
from duplex.engine.loading import load
from duplex.errors import UsageError
from duplex.transcription.protocol import Transcriber
from duplex.transcription.recognizer import SttTranscriber
from duplex.transcription.whisper import WhisperTranscriber

__all__ = ["WHISPER", "check_recognizer", "load_transcriber", "load_whisper", "whisper_name"]

WHISPER = "whisper:"
"""What the name of a Whisper model begins with; a folder or a name of ``faster-whisper``'s follows."""


@contextlib.contextmanager
def load_transcriber(name: str, *, language: str | None = None, sessions: int = 1) -> Generator[Transcriber]:
    """Load what a command's ``--transcriber`` names, for so many conversations side by side; close it at the end.

    :raises CheckpointError: if it cannot be found or loaded
    :raises UsageError: if it does not recognise speech, or not that language
    """
    if name.startswith(WHISPER):
        with load_whisper(name, language=language) as whisper:
            yield whisper
        return
    if language is not None:
        raise UsageError("a recognition model takes no language; leave --language out, or give whisper:NAME")
    check_recognizer(name)
    with load(name, sessions=sessions) as model:
        yield SttTranscriber(model)


def load_whisper(name: str, *, language: str | None = None) -> WhisperTranscriber:
    """Load the Whisper model that ``whisper:NAME`` names.

    :raises CheckpointError: if it cannot be found or loaded
    :raises MissingDependencyError: if ``faster-whisper`` is not installed
    :raises UsageError: if there is no name, or the model does not know the language
    """
    return WhisperTranscriber(whisper_name(name), language=language)


def whisper_name(name: str) -> str:
    """Return the NAME of ``whisper:NAME``.

    :raises UsageError: if there is none
    """
    given = name.removeprefix(WHISPER)
    if not given:
        raise UsageError("whisper: lacks a model; give a folder or a name, as in whisper:small.en")
    return given


def check_recognizer(name: str, *, revision: str | None = None) -> None:
    """Check that a checkpoint recognises speech, before its weights are read.

    :raises CheckpointError: if it cannot be found
    :raises UsageError: if it does something else
    """
    kind = checkpoint.describe(name, revision=revision).model_type
    if kind != "stt":
        raise UsageError(
            f"{name} is a model of kind {kind!r}, which does not recognise speech; give one that does, such as "
            "kyutai/stt-1b-en_fr (--model), or Whisper (--transcriber whisper:small.en)"
        )
