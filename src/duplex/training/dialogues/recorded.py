"""Recorded dialogues as training data: stereo files, user left and agent right, with a transcript of the agent.

The transcript is a file of the same name that ends in ``.json``, as ``duplex process`` writes ``transcript.json``:
``{"chunks": [{"text": word, "timestamp": [start, end]}]}``, in seconds. Where it is missing, Whisper can say what
either side's words are.
"""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.decoding import Decoder
from duplex.audio.folders import AUDIO_SUFFIXES, find_audio
from duplex.audio.pcm import UserChannel
from duplex.errors import CorpusError
from duplex.parsing import parse_json, shown
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.transcription.loading import load_whisper
from duplex.transcription.whisper import WhisperTranscriber

__all__ = ["RecordedDialogue", "find_dialogues", "read_dialogue"]

WORDS = '{"chunks": [{"text": "Hello", "timestamp": [0.5, 0.9]}]}'


@attrs.frozen
class RecordedDialogue:
    """One recorded dialogue."""

    path: Path
    transcriber: str | None = None
    """``whisper:NAME``, the Whisper model that hears the words where no transcript is."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """The modules that must be installed."""
        return ("faster_whisper",) if self.transcriber else ()

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:  # noqa: ARG002 -- nothing is drawn
        """Read the dialogue.

        :raises CorpusError: if words have no times, or are outside the dialogue
        :raises AudioFileError: if the recording is damaged
        """
        return [read_dialogue(self.path, self.transcriber)]


def find_dialogues(folder: Path, *, transcripts: bool = True) -> dict[Path, float]:
    """Return the recorded dialogues of a folder with their durations in seconds, after validating every one.

    Without ``transcripts``, one may have none.

    :raises CorpusError: if there are none, or one is not usable
    :raises AudioFileError: if a recording is damaged
    """
    paths = sorted(find_audio(folder))
    if not paths:
        raise CorpusError(f"{folder} has no recordings ({', '.join(sorted(AUDIO_SUFFIXES))}); give another folder")
    return {path: _read(path, optional=not transcripts).seconds for path in paths}


def read_dialogue(path: Path, transcriber: str | None = None) -> Dialogue:
    """Read a stereo recording and its transcript; without one, ``transcriber``, ``whisper:NAME``, hears both sides.

    :raises CorpusError: if words are missing or have no times, or channels differ in length
    :raises AudioFileError: if the recording is damaged
    :raises CheckpointError: if the Whisper model cannot be loaded
    :raises MissingDependencyError: if ``faster-whisper`` is not installed
    """
    dialogue = _read(path, optional=transcriber is not None)
    if transcriber is None or _transcript(path).exists():
        return dialogue
    heard = [_heard(transcriber, pcm) for pcm in (dialogue.agent, dialogue.user)]
    return attrs.evolve(dialogue, agent_words=heard[0], user_words=heard[1])


def _read(path: Path, *, optional: bool) -> Dialogue:
    transcript = _transcript(path)
    return Dialogue(
        name=str(path),
        sample_rate=SAMPLE_RATE,
        user=_channel(path, "left"),
        agent=_channel(path, "right"),
        agent_words=() if optional and not transcript.exists() else _words(transcript),
        user_words=None,
    )


def _transcript(path: Path) -> Path:
    return path.with_name(f"{path.stem}.json")


@cache
def _whisper(name: str) -> WhisperTranscriber:
    """Return a Whisper model, loaded once in each process."""
    return load_whisper(name)


def _heard(name: str, pcm: NDArray[np.float32]) -> tuple[Word, ...]:
    words = anyio.run(partial(_whisper(name).transcribe, pauses=True), pcm, SAMPLE_RATE)
    return tuple(Word(word.text, word.start, word.end) for word in words)


def _channel(path: Path, channel: UserChannel) -> NDArray[np.float32]:
    decoder = Decoder(path, SAMPLE_RATE, channel)
    if decoder.channels == 1:
        decoder.close()
        raise CorpusError(f"{path} is mono; a dialogue is stereo, user left, agent right: export both channels")
    pieces: list[NDArray[np.float32]] = []
    try:
        while (piece := decoder.read()) is not None:
            pieces.append(piece)
    finally:
        decoder.close()
    return np.concatenate(pieces)


def _words(path: Path) -> tuple[Word, ...]:
    try:
        words = tuple(_word(path, chunk) for chunk in parse_json(path.read_bytes())["chunks"])
    except FileNotFoundError:
        raise CorpusError(
            f"{path} is missing; write the agent's words there, as {WORDS}, or give --transcriber"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} has no words ({error}); write them as {WORDS}") from error
    return words


def _word(path: Path, chunk: Any) -> Word:
    try:
        entry: Mapping[str, Any] = chunk
        start, end = entry["timestamp"]
        return Word(str(entry["text"]).strip(), float(start), float(end))
    except (KeyError, TypeError, ValueError):
        raise CorpusError(f"{path}: {shown(chunk)} is no word with its times; write it as in {WORDS}") from None
