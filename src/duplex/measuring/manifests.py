"""Manifests: tables of recordings as other toolkits have them. Their entries become dialogues.

- ``.jsonl``, ``.jsonl.gz`` and ``.json``: a JSON object a line, of lhotse (recordings, cuts, supervisions) or NeMo
- ``wav.scp``: Kaldi's, with the tables beside it

The packages of these toolkits depend on PyTorch, with gigabytes of it, and what is needed of their formats is small: so
they are read here. An entry that cannot be used is a dialogue that fails, and does not stop the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from duplex.errors import DuplexError, UsageError
from duplex.measuring.entries import Entry, as_sources
from duplex.measuring.kaldi import WAV_SCP, read_kaldi
from duplex.measuring.lhotse import is_lhotse, read_lhotse, supervised
from duplex.measuring.lines import read_lines
from duplex.measuring.nemo import is_nemo, read_nemo
from duplex.measuring.source import Source, failed
from duplex.parsing import parse_json, shown
from duplex.process.pairs import Pair

__all__ = ["is_manifest", "read_manifest"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def is_manifest(path: Path) -> bool:
    """Tell whether a name is that of a manifest."""
    return path.name == WAV_SCP or path.name.lower().endswith(_SUFFIXES)


def read_manifest(path: Path, pairs: Sequence[Pair], *, given_turns: bool) -> Iterator[Source]:
    """Yield the dialogues of a manifest.

    :param given_turns: takes the times of speech that the manifest has
    :raises UsageError: if it cannot be read
    """
    if path.name == WAV_SCP:
        yield from as_sources(path, read_kaldi(path, given_turns=given_turns), pairs)
        return
    entries: list[Entry] = []
    supervisions: list[Mapping[str, Any]] = []
    for number, fields in _objects(path):
        try:
            if is_nemo(fields):
                entries.append(read_nemo(path, fields, given_turns=given_turns))
            elif is_lhotse(fields):
                entries.append(read_lhotse(path, fields, given_turns=given_turns))
            elif "recording_id" in fields:
                supervisions.append(fields)
            else:
                raise UsageError(f"{shown(fields)} is no entry of lhotse's or NeMo's; give a manifest of one of them")
        except DuplexError as problem:
            yield failed(path, f"{path.stem}-{number}", UsageError(f"{path}, line {number}: {problem}"))
    yield from as_sources(path, [*entries, *supervised(supervisions)], pairs)


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    found = False
    for number, line in read_lines(path, "a manifest"):
        try:
            fields: Any = parse_json(line.encode())
        except ValueError:
            raise UsageError(
                f"{path}, line {number}: no JSON object a line; give a manifest of lhotse (.jsonl, .jsonl.gz) or NeMo"
            ) from None
        if not isinstance(fields, dict):
            raise UsageError(f"{path}, line {number}: {shown(fields)} is no object; give a manifest of lhotse or NeMo")
        found = True
        yield number, fields  # pyright: ignore[reportUnknownVariableType] -- JSON
    if not found:
        raise UsageError(f"{path} has no entries; give a manifest of lhotse or NeMo")
