"""``score`` on a cluster: how likely a model finds what was said, a folder of scores for each dialogue."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

import duplex
from duplex.checkpoints.checkpoint import Checkpoint
from duplex.cluster.batch.dialogues import find
from duplex.cluster.batch.inputs import Far
from duplex.cluster.batch.items import Found, Item
from duplex.cluster.batch.job import Ended, Heard, PassedOver, Ready, Runner
from duplex.cluster.batch.model_job import ModelJob
from duplex.cluster.batch.rows import Row, failed_row
from duplex.engine.loading import placement_of
from duplex.measuring.source import Source
from duplex.parsing import parse_json
from duplex.process.pairs import Pair
from duplex.scoring.files import SUMMARY, finished
from duplex.scoring.run import ScoreResult, ScoreSettings, find_scored, identity_of, score_sources
from duplex.transcription.loading import load_whisper, whisper_name

__all__ = ["ScoreJob"]


@attrs.frozen(kw_only=True)
class Unloaded:
    """A model that has not been loaded, as far as it decides the scores; see :class:`duplex.scoring.run.Scorer`."""

    name: str
    revision: str | None
    fingerprint: str
    adapter: str | None
    backend: str = ""
    dtype: str = ""


@attrs.frozen(kw_only=True)
class ScoreJob(ModelJob):
    """Scores dialogues: what :func:`duplex.scoring.score_files` does.

    ``settings`` has no transcriber: ``transcriber`` is the name of one (``whisper:NAME``). The rest is as in
    :class:`ModelJob`.
    """

    model: Unloaded
    settings: ScoreSettings = attrs.field(factory=ScoreSettings)
    pair: Pair | None = None
    transcriber: str | None = None

    @classmethod
    def for_checkpoint(cls, found: Checkpoint, **chosen: Any) -> "ScoreJob":
        """Return the job for a checkpoint that has been found; its commits are those that the workers load."""
        adapter = None if found.adapter is None else found.adapter.pinned
        model = Unloaded(name=found.name, revision=found.revision, fingerprint=found.fingerprint, adapter=adapter)
        load = {**chosen.pop("load"), "revision": found.revision}
        return cls(model=model, load=load, small=found.small, **chosen)

    @property
    def figures(self) -> Mapping[str, type]:
        """The table's own columns."""
        return {"sum": float, "text_perplexity": float, "agent_perplexity": float, "real_time_factor": float}

    @property
    def looks(self) -> bool:
        """Unless all is to be done again."""
        return not self.settings.force

    def find(self, local: Sequence[str], far: Sequence[Far], out: str, passed_over: PassedOver | None) -> list[Found]:
        """Return the dialogues that files, folders, manifests and addresses stand for."""
        return find(local, far, partial(find_scored, out=out, pair=self.pair, passed_over=passed_over), self.pair)

    def check(self) -> "ScoreJob":
        """Check that the model can run here, and return the job with what would run it."""
        chosen = self.checked_choice()
        placed = placement_of(**{name: chosen[name] for name in ("backend", "device", "dtype") if name in chosen})
        return attrs.evolve(self, model=attrs.evolve(self.model, backend=placed.backend, dtype=placed.dtype))

    def marker(self, item: Item) -> str:
        """Return the name of the dialogue's summary."""
        return f"{item.name}/{SUMMARY}"

    def look(self, ready: Ready, out: Path) -> Row | None:
        """Return the row of a dialogue that is finished, or cannot be scored."""
        item, source = ready.item, ready.payload
        if not (isinstance(source, Source) and (out / self.marker(item)).is_file()):
            return None
        name = None if self.transcriber is None else f"whisper:{whisper_name(self.transcriber)}"
        try:
            before = finished(out / item.name, identity_of(self.model, source, self.settings, name))
        except Exception as error:  # noqa: BLE001 -- the other dialogues must not suffer
            return failed_row(item, error)
        return None if before is None else _row(item, "skipped", before)

    def files(self, item: Item, out: Path) -> list[str]:
        """Return the names of the files of a folder of scores."""
        content: Any = parse_json((out / item.name / SUMMARY).read_bytes(), surrogates=True)
        return [f"{item.name}/{name}" for name in content["files"]] + [self.marker(item)]

    @contextlib.contextmanager
    def opened(self) -> Generator[Runner]:
        """Load the model, and what gives the agent's words."""
        with contextlib.ExitStack() as stack:
            whisper = None if self.transcriber is None else stack.enter_context(load_whisper(self.transcriber))
            model = stack.enter_context(duplex.load(self.model.name, **self.load))
            settings = attrs.evolve(self.settings, transcriber=whisper)

            async def run(ready: Sequence[Ready], out: Path, heard: Heard, ended: Ended) -> None:
                items = {each.payload.name: each.item for each in ready}
                sources = [each.payload for each in ready if isinstance(each.payload, Source)]
                seconds = 0.0

                def progress(result: ScoreResult) -> None:
                    nonlocal seconds
                    item = items[result.source.name]
                    if result.error is not None:
                        ended(failed_row(item, result.error))
                        return
                    row = _row(item, result.status, result.summary)
                    seconds += row.seconds
                    heard(seconds)
                    ended(row)

                await score_sources(model, sources, out, settings, progress)

            yield run


def _row(item: Item, status: Any, summary: Mapping[str, Any]) -> Row:
    streams = summary["streams"]
    return Row.of(
        item,
        status,
        seconds=float(summary["seconds"]),
        summary=summary,
        notes=tuple(summary["notes"]),
        figures={
            "sum": summary["sum"],
            "text_perplexity": streams["text"]["perplexity"],
            "agent_perplexity": streams["agent"]["perplexity"],
            "real_time_factor": summary["real_time_factor"],
        },
    )
