"""The plan of a dialogue data set: its files, and how each is made, by simulation or from a recording."""

import copy
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
from duplex.engine.loading import load_codec
from duplex.errors import UsageError
from duplex.training.data.synthesizers import SYNTHESIZERS
from duplex.training.data.voices import AGENT_VOICE, Voice, user_voices
from duplex.training.dialogues.caching_encoder import CachingEncoder
from duplex.training.dialogues.dialogue import Dialogue
from duplex.training.dialogues.phrasings import Split
from duplex.training.dialogues.recorded import RecordedDialogue, find_dialogues
from duplex.training.dialogues.shards import Provenance, codec_fingerprint, fingerprint, write_dialogues
from duplex.training.dialogues.simulation import simulate_dialogue
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.dialogues.tokens import tokenize
from duplex.training.validators import check_scale
from duplex.transcription.alignment import SpecialTokens
from duplex.transcription.loading import WHISPER

__all__ = ["TOKENIZER", "DialogueJob", "SimulatedDialogues", "plan_dialogues", "plan_recorded_dialogues"]

TOKENIZER = "tokenizer_spm.model"
HOURS = 24.0
SHARD_SECONDS = 600
DIALOGUE_SECONDS = (30.0, 80.0)
BYTES_PER_SECOND = 500
TAKES = (0.93, 1.0, 1.08)
"""Of each dialogue in Kokoro's voices, which take most of the time."""


class DialogueSource(Protocol):
    """Generates the dialogues of one file."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:
        """Return dialogues of about ``seconds`` seconds together."""
        ...


@attrs.frozen(kw_only=True)
class SimulatedDialogues:
    """Simulated dialogues of the built-in model's agent with users, in the phrasings of one split."""

    voices: Sequence[Voice] = attrs.field(factory=user_voices)
    split: Split = "training"
    takes: Sequence[float] = (1.0,)
    """A dialogue is held once for each, by a voice that is so much higher and faster, in another room."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements of the voices' synthesizers."""
        return tuple(need for voice in (AGENT_VOICE, *self.voices) for need in SYNTHESIZERS[voice.engine].REQUIREMENTS)

    def make(self, seconds: float, rng: np.random.Generator) -> list[Dialogue]:
        """Simulate dialogues of about ``seconds`` seconds together."""
        made: list[Dialogue] = []
        while sum(dialogue.seconds for dialogue in made) < seconds:
            length, script, rooms = rng.uniform(*DIALOGUE_SECONDS), *rng.spawn(2)
            made += [
                simulate_dialogue("performed", self.voices, length, again, self.split, stretch=take, rooms=rooms)
                for take, again in zip(self.takes, _copies(script, len(self.takes)), strict=True)
            ]
        return made


def _copies(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    return [copy.deepcopy(rng) for _ in range(count)]


@attrs.frozen(kw_only=True)
class DialogueJob:
    """A file to be made: dialogues as tokens of a codec and of the tokenizer in the same folder."""

    path: Path
    source: DialogueSource
    codec: str
    """As :func:`duplex.load_codec` takes it."""
    seconds: float
    seed: int

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements of the source."""
        return self.source.requirements

    @property
    def size(self) -> float:
        """Bytes of tokens."""
        return self.seconds * BYTES_PER_SECOND

    def make(self) -> None:
        """Write the file."""
        torch.set_num_threads(1)  # there is a process for each core
        codec, encode_agent = _encoders(self.codec)
        marks, path = SpecialTokens(), self.path.parent / TOKENIZER
        tokenizer = Tokenizer.load(path)
        dialogues = self.source.make(self.seconds, np.random.default_rng(self.seed))
        provenance = Provenance(
            codec=codec_fingerprint(resolve(self.codec, parts=("codec",))),
            tokenizer=fingerprint(path),
            codebooks=codec.spec.codebooks,
            vocabulary=codec.spec.vocabulary,
            text_vocabulary=tokenizer.vocab_size,
            frame_rate=codec.spec.frame_rate,
            marks=marks,
        )
        tokens = [tokenize(one, codec, encode_agent, tokenizer, marks) for one in dialogues]
        write_dialogues(self.path, tokens, provenance)


@cache
def _encoders(codec: str) -> tuple[Codec, CachingEncoder]:
    """Return a codec, and an encoder that caches the agent's utterances over all files that this process makes."""
    loaded = load_codec(codec)
    return loaded, CachingEncoder(loaded)


def plan_dialogues(
    folder: Path,
    *,
    codec: str = "tiny",
    tokenizer: str | None = None,
    styles: Path | None = None,
    scale: float = 1.0,
    seed: int = 0,
) -> list[DialogueJob]:
    """Return the jobs for simulated dialogues in ``folder``, and write their tokenizer; a ``scale`` of 1 is 24 hours.

    The tokenizer is that of a model, as :func:`duplex.load` takes it, or by default one trained on the dialogues.
    ``styles`` is a folder of more voices, as :func:`~duplex.training.data.voices.user_voices` takes it.

    :raises UsageError: if ``scale`` is not positive, ``styles`` has none, or ``folder`` has dialogues with another
        tokenizer
    :raises CheckpointError: if there is no such model
    :raises OutputError: if the folder cannot be written
    """
    check_scale(scale)
    source = SimulatedDialogues(voices=user_voices(styles), takes=(1.0,) if styles is None else TAKES)
    _ensure_tokenizer(folder, seed, tokenizer)
    seconds = HOURS * 3600 * scale
    return [
        DialogueJob(
            path=folder / f"dialogues-{index:04}.safetensors",
            source=source,
            codec=codec,
            seconds=min(seconds, SHARD_SECONDS),
            seed=zlib.crc32(f"{seed} dialogues {index}".encode()),
        )
        for index in range(max(1, round(seconds / SHARD_SECONDS)))
    ]


def plan_recorded_dialogues(
    folder: Path,
    out: Path,
    *,
    codec: str = "tiny",
    tokenizer: str | None = None,
    transcriber: str | None = None,
    seed: int = 0,
) -> list[DialogueJob]:
    """Return the jobs for a folder of recorded dialogues, after validating every one.

    The tokenizer is as for :func:`plan_dialogues`. Where a transcript is missing, ``transcriber``, ``whisper:`` and
    the name or folder of a Whisper model, hears the words.

    :raises UsageError: if ``transcriber`` is no such name
    :raises CorpusError: if there are none, or one is not usable
    :raises AudioFileError: if a recording is damaged
    """
    if transcriber is not None and not transcriber.startswith(WHISPER):
        raise UsageError(f"the transcriber of recordings is '{transcriber}'; give whisper:NAME, as in whisper:small.en")
    lengths = find_dialogues(folder, transcripts=transcriber is None)
    _ensure_tokenizer(out, seed, tokenizer)
    return [
        DialogueJob(
            path=out / f"{path.stem}-{zlib.crc32(os.fsencode(path.relative_to(folder))):08x}.safetensors",
            source=RecordedDialogue(path, transcriber),
            codec=codec,
            seconds=seconds,
            seed=seed,
        )
        for path, seconds in lengths.items()
    ]


def _ensure_tokenizer(folder: Path, seed: int, model: str | None) -> None:
    path = folder / TOKENIZER
    wanted = None if model is None else resolve(model, parts=("model",)).tokenizer
    if not path.exists():
        make_folder(folder)
        atomic_write_bytes(path, train_tokenizer(seed, SpecialTokens()) if wanted is None else wanted.read_bytes())
    elif wanted is not None and fingerprint(path) != fingerprint(wanted):
        raise UsageError(f"{folder} has dialogues with another tokenizer than that of '{model}'; choose a new folder")
