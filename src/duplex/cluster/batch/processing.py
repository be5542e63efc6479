"""``process`` on a cluster: recordings through the model, each into a folder of results."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import attrs

import duplex
from duplex.audio.pcm import UserChannel
from duplex.checkpoints import checkpoint
from duplex.cluster.batch.inputs import Far
from duplex.cluster.batch.items import Found, Item
from duplex.cluster.batch.job import Ended, Heard, PassedOver, Ready, Runner
from duplex.cluster.batch.model_job import ModelJob
from duplex.cluster.batch.rows import Row
from duplex.engine.model import Model
from duplex.errors import DuplexError, UsageError
from duplex.measuring.lists import LIST_SUFFIXES, read_list
from duplex.measuring.manifests import is_manifest, read_manifest
from duplex.measuring.source import Side, Source
from duplex.measuring.sources import tables_named
from duplex.options import SessionOptions
from duplex.process.names import distinct_names
from duplex.process.plan import Plan, Recipe, Result
from duplex.process.recordings import Recording, find_recordings
from duplex.process.run import Progress, carry_out
from duplex.process.sides import both_sides
from duplex.results.files import RUN, read_run
from duplex.transcription.loading import load_transcriber

__all__ = ["ProcessJob"]

SIDES = ("left", "right")
_CHANNELS: Mapping[Side, UserChannel | None] = {"mono": None, "left": "left", "right": "right"}


@attrs.frozen(kw_only=True)
class ProcessJob(ModelJob):
    """Runs recordings through a model: what :func:`duplex.process.process` does.

    ``recipe`` decides the results. The rest is as in :func:`duplex.process.process`, and in :class:`ModelJob`.
    """

    recipe: Recipe
    both: bool = False
    force: bool = False
    transcriber: str | None = None

    @classmethod
    def for_model(
        cls, name: str = "tiny", *, options: SessionOptions | None = None, tail: float = 0.0, **load: Any
    ) -> "ProcessJob":
        """Return the job for a model by its name; ``load`` are the arguments of :func:`duplex.load`.

        :raises CheckpointError: if there is no such checkpoint, or it is damaged
        :raises UsageError: if ``tail`` is out of range
        """
        found = checkpoint.resolve(name, revision=load.get("revision"), adapter=load.get("adapter"))
        pinned = None if found.adapter is None else found.adapter.pinned
        recipe = Recipe(
            model=name,
            revision=found.revision,
            fingerprint=found.fingerprint,
            adapter=pinned,
            options=(options or SessionOptions()).with_defaults(found.defaults),
            tail=tail,
        )
        return cls(recipe=recipe, load={**load, "revision": found.revision}, small=found.small)

    @property
    def figures(self) -> Mapping[str, type]:
        """The table's own columns."""
        return {"text": str, "user_text": str, "real_time_factor": float, "cut_short": bool}

    @property
    def looks(self) -> bool:
        """Unless all is to be done again."""
        return not self.force

    def find(self, local: Sequence[str], far: Sequence[Far], out: str, passed_over: PassedOver | None) -> list[Found]:
        """Return the recordings that files, folders, manifests and addresses stand for."""
        tables = [path for each in local for path in tables_named(each) or ()]
        others: list[str | Path] = [each for each in local if tables_named(each) is None]
        listed = [source for path in tables for source in _entries(path)]
        others += [each for each in listed if isinstance(each, Path)]
        found = [Found.of(each) for each in find_recordings(others, out, passed_over=passed_over)] if others else []
        found += [each for entry in listed if isinstance(entry, Source) for each in _recordings(entry)]
        found += [_far(each) for each in far]
        if not found:
            raise UsageError("there is nothing to process; give recordings, or folders with recordings")
        names = distinct_names([[each.payload.name] for each in found])
        named = [each.named(name) for each, name in zip(found, names, strict=True)]
        return [side for each in named for side in _sides(each)] if self.both else named

    def check(self) -> "ProcessJob":
        """Check that the model can run here."""
        self.checked_choice()
        return self

    def marker(self, item: Item) -> str:
        """Return the name of the recording's ``run.json``."""
        return f"{item.name}/{RUN}"

    def look(self, ready: Ready, out: Path) -> Row | None:
        """Return the row of a recording that is finished, or cannot be processed."""
        plan = self._plan([ready], out)
        return _row(ready.item, plan.results[0]) if plan.results else None

    def files(self, item: Item, out: Path) -> list[str]:
        """Return the names of the files of a folder of results."""
        run = read_run(out / item.name) or {}
        return [f"{item.name}/{name}" for name in (*run.get("files", []), RUN) if name != RUN] + [self.marker(item)]

    @contextlib.contextmanager
    def opened(self) -> Generator[Runner]:
        """Load the model, and what hears the user's words."""
        listening = (
            contextlib.nullcontext()
            if self.transcriber is None
            else load_transcriber(self.transcriber, sessions=self.side_by_side)
        )
        with listening as transcriber, duplex.load(self.recipe.model, **self.load) as model:
            _check_same(model, self.recipe)

            async def run(ready: Sequence[Ready], out: Path, heard: Heard, ended: Ended) -> None:
                plan = self._plan(ready, out)
                items = {str(each.payload.name): each.item for each in ready}
                for result in plan.results:
                    ended(_row(items[str(result.recording.name)], result))

                def progress(news: Progress) -> None:
                    heard(news.done)
                    if news.result is not None:
                        ended(_row(items[str(news.recording.name)], news.result))

                await carry_out(model, plan, progress=progress, transcriber=transcriber)

            yield run

    def _plan(self, ready: Sequence[Ready], out: Path) -> Plan:
        recordings = [each.payload for each in ready if isinstance(each.payload, Recording)]
        return Plan.make(recordings, out, self.recipe, force=self.force)


def _entries(path: Path) -> Iterator[Path | Source]:
    """Yield what a table names: recordings that stand alone, and entries; one that fails, if it cannot be read."""
    try:
        if path.suffix.lower() in LIST_SUFFIXES:
            alone, pairs = read_list(path)
            yield from (*alone, *pairs)
        elif is_manifest(path):
            yield from read_manifest(path, (), given_turns=False)
        else:
            raise UsageError(
                f"{path} holds times of turns, and nothing to hear; give recordings, or a manifest of them"
            )
    except DuplexError as problem:
        name = PurePath(path.stem)
        yield Source(name=name, kind="turns", files=(Recording(path, name),), problem=problem)


def _recordings(source: Source) -> Iterator[Found]:
    """Yield the recordings of a manifest's entry: one, or each side of a pair as the user."""
    if source.problem is not None:
        yield Found(payload=Recording(source.files[0].path, source.name), stored=(None,), problem=source.problem)
        return
    stretch = None if not source.start and source.end is None else (source.start, source.end)
    for index, file in enumerate(source.files):
        name = source.name if len(source.files) == 1 else source.name / f"user-{SIDES[index]}"
        side = _CHANNELS[source.sides[index]] if source.kind == "pair" else None
        yield Found.of(Recording(file.path, name, side=side, stretch=stretch))


def _far(far: Far) -> Found:
    label = far.stored.label
    recording = Recording(Path(label), far.name, origin=label)
    return Found(payload=recording, stored=(far.stored,), problem=far.problem)


def _sides(found: Found) -> Iterator[Found]:
    if not isinstance(found.payload, Recording):
        return
    for recording in both_sides([found.payload]):
        yield attrs.evolve(found, payload=recording)


def _check_same(model: Model, recipe: Recipe) -> None:
    if recipe.fingerprint and model.fingerprint and model.fingerprint != recipe.fingerprint:
        raise UsageError(
            f"{recipe.model} is another checkpoint on this worker's machine than on the driver's; give a folder that "
            "both see, or a repository with --revision"
        )


def _row(item: Item, result: Result) -> Row:
    figures = {
        "text": result.text,
        "user_text": result.user_text,
        "real_time_factor": result.real_time_factor,
        "cut_short": result.cut_short,
    }
    return Row.of(
        item,
        result.status,
        seconds=result.seconds,
        error=result.error,
        summary=figures,
        notes=("was cut short; what is there was processed. Get the whole file",) if result.cut_short else (),
        figures={} if result.status == "failed" else figures,
    )
