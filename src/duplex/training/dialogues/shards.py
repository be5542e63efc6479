"""Dialogues on disk, as tokens: a safetensors file of many, concatenated.

::

    tokens    int16 [2 + agent + user codebooks, frames]   text, agent, user, the user's text
    ends      int64 [dialogues]                            the end of each dialogue
    metadata  "dialogues": the provenance (codec, tokenizer and layout of the rows), as JSON
"""

import hashlib
import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from duplex.atomic import atomic_write_bytes
from duplex.checkpoints.checkpoint import Checkpoint
from duplex.errors import CorpusError
from duplex.frame_model import UNGENERATED
from duplex.parsing import parse_json, shown
from duplex.training.dialogues.tokens import DialogueTokens
from duplex.transcription.alignment import SpecialTokens

__all__ = ["Provenance", "codec_fingerprint", "fingerprint", "read_dialogues", "write_dialogues"]

MAX_VOCABULARY = 2**15
MAX_FRAME_RATE = 1e6
DECODER = ("upsample.", "decoder_transformer.", "decoder.")
"""How the names of weights begin, as published, that only turn codes into sound."""
REBUILD_HINT = "make the dialogues anew with: duplex train dialogues"


@attrs.frozen(kw_only=True)
class Provenance:
    """The codec and tokenizer that made dialogues; a run needs dialogues of the same provenance."""

    codec: str
    """Fingerprint of the codec's encoder and codebooks."""
    tokenizer: str
    """Fingerprint of the tokenizer."""
    codebooks: int
    vocabulary: int
    """Entries of a codebook."""
    text_vocabulary: int
    frame_rate: float
    marks: SpecialTokens


def codec_fingerprint(codec: Checkpoint) -> str:
    """Return the SHA-256 of what makes a codec's codes: a decoder that learns on leaves them what they were.

    It depends neither on the order of the weights in their file nor on the language model beside them.
    """
    made = hashlib.sha256(json.dumps(attrs.asdict(codec.mimi), sort_keys=True).encode())
    tensors: list[tuple[str, dict[str, Any]]] = []
    if codec.mimi_weights is not None:
        tensors = cast("Any", safetensors).deserialize(codec.mimi_weights.read_bytes())  # safetensors has no types
    for name, tensor in sorted(tensors, key=itemgetter(0)):
        if not name.startswith(DECODER):
            made.update(f" {name} {tensor['dtype']} {tensor['shape']} ".encode())
            made.update(tensor["data"])
    return made.hexdigest()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_dialogues(path: Path, dialogues: Sequence[DialogueTokens], provenance: Provenance) -> None:
    """Write a shard.

    :raises CorpusError: if the tokenizer has more tokens than a shard can hold
    :raises OutputError: if it cannot be written
    """
    if max(provenance.text_vocabulary, provenance.vocabulary) > MAX_VOCABULARY:
        raise CorpusError(f"tokens are kept as 16 bits, {MAX_VOCABULARY} at most; choose a tokenizer with fewer pieces")
    rows = [np.vstack([tokens.text, tokens.agent, tokens.user, tokens.user_text]) for tokens in dialogues]
    tensors = {
        "tokens": np.concatenate(rows, axis=1).astype(np.int16),
        "ends": np.cumsum([len(tokens.text) for tokens in dialogues], dtype=np.int64),
    }
    atomic_write_bytes(path, save(tensors, metadata={"dialogues": json.dumps(attrs.asdict(provenance))}))


def _check_provenance(provenance: Provenance) -> None:
    """Check numbers that others are computed of.

    :raises ValueError: if one is out of range
    """
    for name in ("codebooks", "vocabulary", "text_vocabulary"):
        value = getattr(provenance, name)
        if type(value) is not int or not 1 <= value <= MAX_VOCABULARY:
            raise ValueError(f"'{name}' is {shown(value)}")
    if type(provenance.frame_rate) not in (int, float) or not 0 < provenance.frame_rate < MAX_FRAME_RATE:
        raise ValueError(f"'frame_rate' is {shown(provenance.frame_rate)}")


def read_dialogues(path: Path) -> tuple[list[NDArray[np.int16]], Provenance]:
    """Return a shard's dialogues, int16 ``[rows, frames]`` each, and their provenance.

    :raises CorpusError: if it is damaged or not a shard of dialogues
    """
    try:
        opened: Any = safe_open(path, framework="np")
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            about: dict[str, Any] = parse_json(metadata["dialogues"])
            about["marks"] = SpecialTokens(**about["marks"])
            provenance = Provenance(**about)
            _check_provenance(provenance)
            tokens, ends = file.get_tensor("tokens"), file.get_tensor("ends")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not a readable file of dialogues ({error}); {REBUILD_HINT}") from error
    rows = 2 + 2 * provenance.codebooks
    if tokens.dtype != np.int16 or tokens.ndim != 2 or tokens.shape[0] != rows or ends[-1:] != tokens.shape[1]:  # noqa: PLR2004
        raise CorpusError(f"{path} holds {tokens.dtype} {list(tokens.shape)}, not int16 of {rows} rows; {REBUILD_HINT}")
    if ends.dtype != np.int64 or ends.ndim != 1 or (np.diff(ends, prepend=0) < 0).any():
        raise CorpusError(f"{path} has dialogues whose ends are out of order; {REBUILD_HINT}")
    sizes = np.full((rows, 1), provenance.vocabulary)
    sizes[[0, -1]] = provenance.text_vocabulary
    if (tokens < UNGENERATED).any() or (tokens >= sizes).any():
        raise CorpusError(f"{path} has tokens outside of their vocabulary; {REBUILD_HINT}")
    return np.split(tokens, ends[:-1], axis=1), provenance
