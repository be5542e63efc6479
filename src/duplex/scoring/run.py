"""Many dialogues through :func:`duplex.scoring.score`, as many side by side as the model has places."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
import attrs

import duplex
from duplex.concurrency.groups import ungrouped
from duplex.engine.model import Model
from duplex.engine.scoring import check_scores
from duplex.errors import UsageError
from duplex.measuring.source import Source, with_copies
from duplex.measuring.sources import find_dialogues
from duplex.process.columns import read_words, transcript_beside
from duplex.process.names import alike, harmless
from duplex.process.pairs import Pair
from duplex.process.recordings import Recording
from duplex.process.run_record import sha256_of
from duplex.process.sides import AgentChannel
from duplex.scoring.files import TableFormat, check_format, finished, write_scores
from duplex.scoring.recorded import Read, read_recorded, read_samples, read_tokens, with_words
from duplex.scoring.stream import score
from duplex.scoring.summary import DialogueScores
from duplex.transcription.whisper import WhisperTranscriber

__all__ = ["ScoreResult", "ScoreSettings", "Scorer", "find_scored", "identity_of", "score_files", "score_sources"]

TOKENS_SUFFIX = ".safetensors"
WHISPER_RATE = 16000


@attrs.frozen(kw_only=True)
class ScoreResult:
    """What became of one dialogue: its folder, and what ``summary.json`` says; ``error`` says why it ``"failed"``."""

    source: Source
    folder: Path
    status: Literal["done", "skipped", "failed"]
    summary: dict[str, Any] = attrs.field(factory=dict[str, Any])
    error: Exception | None = None


class Scorer(Protocol):
    """What of a model decides the scores: a :class:`duplex.Model`, or one that has not been loaded."""

    @property
    def name(self) -> str: ...  # noqa: D102 -- the attributes of the model
    @property
    def revision(self) -> str | None: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def adapter(self) -> str | None: ...  # noqa: D102
    @property
    def backend(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102


@attrs.frozen(kw_only=True)
class ScoreSettings:
    """What decides the scores, beside the dialogue and the model."""

    agent_channel: AgentChannel = "right"
    form: TableFormat = "safetensors"
    plot: bool = False
    force: bool = False
    transcriber: WhisperTranscriber | None = None


def find_scored(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    pair: Pair | None = None,
    passed_over: Callable[[Path], None] | None = None,
) -> list[Source]:
    """Return the dialogues that are meant: those of :func:`duplex.measuring.find_dialogues`, and files of tokens.

    :raises UsageError: if no input is given
    """
    given = list(inputs)
    tokens = [Path(each) for each in given if Path(each).suffix == TOKENS_SUFFIX and not Path(each).is_dir()]
    others = [each for each in given if Path(each) not in tokens]
    found = find_dialogues(others, out, pair=pair, passed_over=passed_over) if others or not tokens else []
    for path in tokens:
        name = harmless(PurePath(path.stem if path.stem != "tokens" else path.resolve().parent.name))
        found.append(Source(name=name, kind="stereo", files=(Recording(path, name),)))
    names = [alike(each.name) for each in found]
    if len(set(names)) < len(names):
        raise UsageError("two of the dialogues have the same name; score them with an --out of their own each")
    return found


async def score_files(
    model: Model,
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: ScoreSettings | None = None,
    *,
    progress: Callable[[ScoreResult], None] | None = None,
) -> list[ScoreResult]:
    """Score dialogues and write a folder for each below ``out``; what is finished already is skipped.

    :raises UsageError: if nothing is given, or the model scores no dialogues
    :raises MissingDependencyError: if what writes the format is not installed
    """
    sources = await anyio.to_thread.run_sync(find_scored, list(inputs), out)
    return await score_sources(model, sources, Path(out), settings or ScoreSettings(), progress)


async def score_sources(
    model: Model,
    sources: Sequence[Source],
    out: Path,
    settings: ScoreSettings,
    progress: Callable[[ScoreResult], None] | None = None,
) -> list[ScoreResult]:
    """Score what :func:`find_scored` has found; results are in the order of the sources.

    Pipes are read to their end before anything is scored, which cannot be cancelled.

    :raises AudioFileError: if there is no room for what comes through a pipe
    """
    check_format(settings.form)
    check_scores(model.frame_model)
    results: dict[int, ScoreResult] = {}

    async def work(waiting: Iterator[tuple[int, Source]]) -> None:
        for index, source in waiting:
            folder = out / source.name
            try:
                results[index] = await _score_one(model, source, folder, settings)
            except Exception as error:  # noqa: BLE001 -- the other dialogues must not suffer
                results[index] = ScoreResult(source=source, folder=folder, status="failed", error=error)
            if progress is not None:
                progress(results[index])

    with ungrouped(), contextlib.ExitStack() as copies:
        waiting = enumerate(await anyio.to_thread.run_sync(copies.enter_context, with_copies(sources)))
        async with anyio.create_task_group() as workers:
            for _ in range(min(model.sessions, len(sources))):
                workers.start_soon(work, waiting)
    return [results[index] for index in range(len(sources))]


async def _score_one(model: Model, source: Source, folder: Path, settings: ScoreSettings) -> ScoreResult:
    name = None if settings.transcriber is None else f"whisper:{settings.transcriber.name}"
    identity = await anyio.to_thread.run_sync(identity_of, model, source, settings, name)
    before = None if settings.force else await anyio.to_thread.run_sync(finished, folder, identity)
    if before is not None:
        return ScoreResult(source=source, folder=folder, status="skipped", summary=before)
    started = time.perf_counter()
    read = await _read(model, source, settings)
    async with contextlib.aclosing(score(model, read.tokens)) as frames:
        scores = await DialogueScores.of(frames, read.states, model.spec)
    figures = scores.summary()
    factor = (time.perf_counter() - started) / figures["seconds"]
    content = {
        "name": source.name.as_posix(),
        **identity,
        "version": duplex.__version__,
        "text": read.text,
        "notes": list(read.notes),
        **figures,
        "real_time_factor": round(factor, 4),
    }
    write = partial(write_scores, folder, scores, content, settings.form, plot=settings.plot)
    await anyio.to_thread.run_sync(write)
    return ScoreResult(source=source, folder=folder, status="done", summary=content)


def identity_of(model: Scorer, source: Source, settings: ScoreSettings, transcriber: str | None) -> dict[str, Any]:
    """Return what decides the scores, by the name of the transcriber. Blocking: the recordings are read."""
    beside, origin = _transcript_of(source, settings), source.files[0].origin
    inputs = [*source.files]
    if beside is not None:
        inputs.append(Recording(beside, PurePath(beside.name), origin=origin and f"{origin} (transcript)"))
    return {
        "inputs": [{"path": file.origin or str(file.path), "sha256": sha256_of(file)} for file in inputs],
        "model": model.name,
        "revision": model.revision,
        "fingerprint": model.fingerprint,
        "adapter": model.adapter,
        "settings": {
            "agent_channel": settings.agent_channel,
            "format": settings.form,
            "plot": settings.plot,
            "transcriber": transcriber,
            "backend": model.backend,
            "dtype": model.dtype,
        },
    }


def _transcript_of(source: Source, settings: ScoreSettings) -> Path | None:
    """Return the file with the agent's words, if there is one; those of a file of tokens are in it."""
    first = source.files[0].path
    if first.suffix == TOKENS_SUFFIX:
        return None
    return transcript_beside(first, source.files[-1].path if settings.agent_channel == "right" else first)


async def _read(model: Model, source: Source, settings: ScoreSettings) -> Read:
    """Return a dialogue's tokens, with the agent's words where they are known."""
    path = source.files[0].path
    if path.suffix == TOKENS_SUFFIX:
        return await anyio.to_thread.run_sync(read_tokens, path, model.spec)
    beside = _transcript_of(source, settings)
    words, origin = None if beside is None else await anyio.to_thread.run_sync(read_words, beside), "transcript"
    read = await anyio.to_thread.run_sync(read_recorded, source, settings.agent_channel, model.spec, model.codec)
    if words is None and settings.transcriber is not None:
        pcm = await anyio.to_thread.run_sync(read_samples, source, settings.agent_channel, WHISPER_RATE)
        words = await settings.transcriber.transcribe(pcm, WHISPER_RATE, pauses=True)
        origin = f"whisper:{settings.transcriber.name}"
    if words is None:
        return read
    return with_words(read, words, model.tokenizer, model.spec, origin)
