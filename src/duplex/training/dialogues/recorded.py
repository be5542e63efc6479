"""Recorded dialogues as training data: stereo files, user left and agent right, with a transcript of the agent.

The transcript is a file of the same name that ends in ``.json``, as ``duplex process`` writes ``transcript.json``:
``{"chunks": [{"text": word, "timestamp": [start, end]}]}``, in seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

__all__ = ["RecordedDialogue", "find_dialogues", "read_dialogue"]

WORDS = '{"chunks": [{"text": "Hello", "timestamp": [0.5, 0.9]}]}'


@attrs.frozen
class RecordedDialogue:
    """One recorded dialogue."""

    path: Path
    requirements: tuple[str, ...] = ()

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:  # noqa: ARG002 -- nothing is drawn
        """Read the dialogue.

        :raises CorpusError: if words have no times, or are outside the dialogue
        :raises AudioFileError: if the recording is damaged
        """
        return [read_dialogue(self.path)]


def find_dialogues(folder: Path) -> dict[Path, float]:
    """Return the recorded dialogues of a folder with their durations in seconds, after validating every one.

    :raises CorpusError: if there are none, or one is not usable
    :raises AudioFileError: if a recording is damaged
    """
    paths = sorted(find_audio(folder))
    if not paths:
        raise CorpusError(f"{folder} has no recordings ({', '.join(sorted(AUDIO_SUFFIXES))}); give another folder")
    return {path: read_dialogue(path).seconds for path in paths}


def read_dialogue(path: Path) -> Dialogue:
    """Read a stereo recording and its transcript.

    :raises CorpusError: if words are missing or have no times, or channels differ in length
    :raises AudioFileError: if the recording is damaged
    """
    return Dialogue(
        name=str(path),
        sample_rate=SAMPLE_RATE,
        user=_channel(path, "left"),
        agent=_channel(path, "right"),
        agent_words=_words(path.with_name(f"{path.stem}.json")),
        user_words=None,
    )


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
        raise CorpusError(f"{path} is missing; write the agent's words there, as {WORDS}") from None
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
