"""Dialogues of two speakers, as ``measure`` and ``score`` look for them, with those at addresses and in shards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from duplex.cluster.batch.inputs import Far
from duplex.cluster.batch.items import Found
from duplex.errors import UsageError
from duplex.measuring.source import Source, failed, with_own_names
from duplex.measuring.sources import paired_sources
from duplex.process.pairs import Pair
from duplex.process.recordings import Recording

__all__ = ["find"]


def find(
    local: Sequence[str], far: Sequence[Far], find_local: Callable[[Sequence[str]], list[Source]], pair: Pair | None
) -> list[Found]:
    """Return dialogues, each with a name of its own.

    :raises UsageError: if there is none
    """
    found = [Found.of(source) for source in (find_local(local) if local else ())] + _far(far, pair)
    if not found:
        raise UsageError("there is nothing to process; give recordings, or folders with recordings")
    named = with_own_names(each.payload for each in found if isinstance(each.payload, Source))
    return [attrs.evolve(each, payload=source) for each, source in zip(found, named, strict=True)]


def _far(far: Sequence[Far], pair: Pair | None) -> list[Found]:
    by_label = {each.stored.label: each for each in far}
    sound = [each for each in far if each.problem is None]
    recordings = [Recording(Path(each.stored.label), each.name, origin=each.stored.label) for each in sound]
    dialogues: list[Found] = []
    for source in paired_sources(recordings, pair):
        files = [by_label[str(file.origin)] for file in source.files]
        stored = tuple(each.stored for each in files)
        dialogues.append(Found(payload=source, stored=stored, transcript=files[0].transcript))
    for each in far:
        if each.problem is not None:
            source = failed(Path(each.stored.label), each.name, each.problem)
            dialogues.append(Found(payload=source, stored=(None,)))
    return dialogues
