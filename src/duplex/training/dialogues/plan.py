"""Which files of dialogues there shall be, and how each is made: performed, or taken from a recording."""

import math
import os
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import attrs
import numpy as np
import torch

from duplex.atomic import atomic_write_bytes, make_folder
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec
from duplex.engine.model import load_codec
from duplex.errors import UsageError
from duplex.training.data.synthesizers import SYNTHESIZERS
from duplex.training.data.voices import AGENT, CAST, Voice
from duplex.training.dialogues.dialogue import Dialogue
from duplex.training.dialogues.performance import perform
from duplex.training.dialogues.phrasings import Use
from duplex.training.dialogues.recorded import RecordedDialogue, find_dialogues
from duplex.training.dialogues.repeats import RepeatEncoder
from duplex.training.dialogues.shards import Origin, codec_fingerprint, fingerprint, write_dialogues
from duplex.training.dialogues.tokens import TextMarks, tokenize
from duplex.training.dialogues.vocabulary import make_tokenizer

__all__ = ["TOKENIZER", "DialogueOrder", "Performed", "dialogues_of_recordings", "plan_dialogues"]

TOKENIZER = "tokenizer_spm.model"
HOURS = 24.0
SHARD_SECONDS = 600
DIALOGUE_SECONDS = (30.0, 80.0)
BYTES_PER_SECOND = 500
USERS = tuple(voice for voice in CAST if voice.role == "user")


class DialogueSource(Protocol):
    """Makes the dialogues of one file."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:
        """Return about so many seconds."""
        ...


@attrs.frozen(kw_only=True)
class Performed:
    """Dialogues of the built-in model's agent with a cast of users, in phrasings for one use."""

    cast: Sequence[Voice] = USERS
    use: Use = "training"

    @property
    def needs(self) -> tuple[str, ...]:
        """What the voices need."""
        return tuple(need for voice in (AGENT, *self.cast) for need in SYNTHESIZERS[voice.engine].NEEDS)

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:
        """Perform until the time is up."""
        made: list[Dialogue] = []
        while sum(dialogue.seconds for dialogue in made) < seconds:
            made.append(perform("performed", self.cast, rng.uniform(*DIALOGUE_SECONDS), rng, self.use))
        return made


@attrs.frozen(kw_only=True)
class DialogueOrder:
    """One file that shall be made: dialogues, turned into tokens by a codec and the tokenizer beside it."""

    path: Path
    source: DialogueSource
    codec: str
    """As :func:`duplex.load_codec` takes it."""
    seconds: float
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        """What the source needs."""
        return self.source.needs

    @property
    def size(self) -> float:
        """Bytes of tokens."""
        return self.seconds * BYTES_PER_SECOND

    def make(self) -> None:
        """Make the file."""
        torch.set_num_threads(1)  # there is a process for each core
        codec, encode_agent = _encoders(self.codec)
        marks, path = TextMarks(), self.path.parent / TOKENIZER
        tokenizer = Tokenizer.load(path)
        dialogues = self.source.make(self.seconds, np.random.default_rng(self.seed))
        origin = Origin(
            codec=codec_fingerprint(resolve(self.codec, parts=("codec",))),
            tokenizer=fingerprint(path),
            codebooks=codec.spec.codebooks,
            vocabulary=codec.spec.vocabulary,
            text_vocabulary=tokenizer.vocab_size,
            frame_rate=codec.spec.frame_rate,
            marks=marks,
        )
        tokens = [tokenize(one, codec, encode_agent, tokenizer, marks) for one in dialogues]
        write_dialogues(self.path, tokens, origin)


@cache
def _encoders(codec: str) -> tuple[Codec, RepeatEncoder]:
    """Return a codec, and one that remembers what the agent has said in all files that this process makes."""
    loaded = load_codec(codec)
    return loaded, RepeatEncoder(loaded)


def plan_dialogues(
    folder: Path, *, codec: str = "tiny", tokenizer: str | None = None, scale: float = 1.0, seed: int = 0
) -> list[DialogueOrder]:
    """Return the files of performed dialogues in ``folder``, and put their tokenizer there; 1 is 24 hours.

    The tokenizer is that of a model, as :func:`duplex.load` takes it, or else a new one of the dialogues' own words.

    :raises UsageError: if ``scale`` is not positive, or ``folder`` has dialogues with another tokenizer
    :raises CheckpointError: if there is no such model
    :raises OutputError: if the folder cannot be written
    """
    if not 0 < scale < math.inf:
        raise UsageError(f"the scale is {scale}; give a number above 0")
    _put_tokenizer(folder, seed, tokenizer)
    seconds = HOURS * 3600 * scale
    return [
        DialogueOrder(
            path=folder / f"dialogues-{index:04}.safetensors",
            source=Performed(),
            codec=codec,
            seconds=min(seconds, SHARD_SECONDS),
            seed=zlib.crc32(f"{seed} dialogues {index}".encode()),
        )
        for index in range(max(1, round(seconds / SHARD_SECONDS)))
    ]


def dialogues_of_recordings(
    folder: Path, out: Path, *, codec: str = "tiny", tokenizer: str | None = None, seed: int = 0
) -> list[DialogueOrder]:
    """Return the files that a folder of recorded dialogues gives, once every one has been read through.

    The tokenizer is as for :func:`plan_dialogues`.

    :raises CorpusError: if there are none, or one cannot be learnt from
    :raises AudioFileError: if a recording is damaged
    """
    lengths = find_dialogues(folder)
    _put_tokenizer(out, seed, tokenizer)
    return [
        DialogueOrder(
            path=out / f"{path.stem}-{zlib.crc32(os.fsencode(path.relative_to(folder))):08x}.safetensors",
            source=RecordedDialogue(path),
            codec=codec,
            seconds=seconds,
            seed=seed,
        )
        for path, seconds in lengths.items()
    ]


def _put_tokenizer(folder: Path, seed: int, model: str | None) -> None:
    path = folder / TOKENIZER
    wanted = None if model is None else resolve(model, parts=("model",)).tokenizer
    if not path.exists():
        make_folder(folder)
        atomic_write_bytes(path, make_tokenizer(seed, TextMarks()) if wanted is None else wanted.read_bytes())
    elif wanted is not None and fingerprint(path) != fingerprint(wanted):
        raise UsageError(f"{folder} has dialogues with another tokenizer than that of '{model}'; choose a new folder")
