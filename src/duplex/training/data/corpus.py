"""Speech corpora on disk: a folder of shards, a few minutes of one voice each.

A shard is a safetensors file: ``pcm`` int16 ``[samples]``, ``targets`` float16 ``[frames, width]`` (the teacher's
features; absent without a teacher), and in its metadata the utterances with their times. Shards are written atomically,
so an interrupted build continues with the missing ones.
"""

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from duplex.atomic import atomic_write_bytes
from duplex.errors import CorpusError
from duplex.parsing import parse_json, shown

__all__ = ["Corpus", "Shard", "Utterance", "read_shard", "write_shard"]

QUIETEST_PEAK = 0.003
LOADS = "run `duplex train data` again, or remove the file"


@attrs.frozen
class Utterance:
    """A transcript, with its first and last sample."""

    text: str
    start: int
    end: int


@attrs.frozen(kw_only=True, eq=False)
class Shard:
    """A few minutes of one voice."""

    voice: str
    role: str
    sample_rate: int
    pcm: NDArray[np.int16]
    targets: NDArray[np.float16] | None
    utterances: tuple[Utterance, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.pcm) / self.sample_rate


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard atomically.

    :raises OutputError: if it cannot be written
    """
    tensors: dict[str, NDArray[Any]] = {"pcm": shard.pcm}
    if shard.targets is not None:
        tensors["targets"] = shard.targets
    about = {
        "voice": shard.voice,
        "role": shard.role,
        "sample_rate": shard.sample_rate,
        "utterances": [attrs.astuple(utterance) for utterance in shard.utterances],
    }
    atomic_write_bytes(path, save(tensors, metadata={"shard": json.dumps(about)}))


def read_shard(path: Path) -> Shard:
    """Read a shard.

    :raises CorpusError: if it is damaged or not a shard
    """
    try:
        opened: Any = safe_open(path, framework="np")
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            about: dict[str, Any] = parse_json(metadata["shard"], surrogates=True)
            names = set(file.keys())
            targets = file.get_tensor("targets") if "targets" in names else None
            pcm = file.get_tensor("pcm")
            if pcm.dtype != np.int16 or pcm.ndim != 1:
                raise CorpusError(f"{path} holds {pcm.dtype} {list(pcm.shape)} as its sound; {LOADS}")
            return Shard(
                voice=about["voice"],
                role=about["role"],
                sample_rate=about["sample_rate"],
                pcm=pcm,
                targets=targets,
                utterances=tuple(_utterance(row) for row in about["utterances"]),
            )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not a readable shard ({error}); {LOADS}") from error


def _utterance(row: Any) -> Utterance:
    text, start, end = row
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError(f"an utterance from {shown(start)} to {shown(end)}")
    return Utterance(str(text), start, end)


@attrs.frozen(eq=False)
class Corpus:
    """All shards of a folder, in memory (173 MB an hour)."""

    folder: Path
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, folder: Path, sample_rate: int) -> "Corpus":
        """Read and validate a folder of shards.

        :raises CorpusError: if there are none, if one is damaged or silent, if sample rates differ from the expected
            one or from each other, or if a teacher's features are not finite or missing in some shards
        """
        if not folder.is_dir():
            raise CorpusError(f"{folder} is not a folder; make the data with: duplex train data --out {folder}")
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise CorpusError(f"{folder} has no shards; make the data with: duplex train data --out {folder}")
        shards: list[Shard] = []
        for path in paths:
            shard = read_shard(path)
            _check(path, shard, sample_rate)
            shards.append(shard)
        if len({shard.targets is None for shard in shards}) > 1:
            raise CorpusError(f"{folder} has shards with and without a teacher's features; make it anew in one way")
        return cls(folder, tuple(shards))

    @property
    def seconds(self) -> float:
        """Total duration in seconds."""
        return sum(shard.seconds for shard in self.shards)

    @property
    def teacher_width(self) -> int:
        """Number of the teacher's features per frame; 0 without a teacher."""
        targets = self.shards[0].targets
        return 0 if targets is None else targets.shape[1]


def _check(path: Path, shard: Shard, sample_rate: int) -> None:
    if shard.sample_rate != sample_rate:
        raise CorpusError(
            f"{path} has sound of {shard.sample_rate} Hz, but the codec takes {sample_rate} Hz; make that shard anew"
        )
    peak = np.abs(shard.pcm.astype(np.int32)).max(initial=0) / 2**15
    if peak < QUIETEST_PEAK:
        raise CorpusError(f"{path} is silent (peak {peak:.4f}); remove it")
    if shard.targets is not None and not np.isfinite(shard.targets).all():
        raise CorpusError(f"{path} has features that are not finite; remove it and run `duplex train data` again")
