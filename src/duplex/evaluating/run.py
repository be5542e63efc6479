"""Full-Duplex-Bench through a model: outputs into its folders, and the figures that need no judge."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from duplex.atomic import atomic_write_text
from duplex.audio.decoding import Decoder
from duplex.conversation.transcript import Chunk
from duplex.engine.model import Model
from duplex.errors import UsageError
from duplex.evaluating.judging import backchannels, distance, overlaps, responses, took_over
from duplex.evaluating.layout import INPUT, OUTPUT, Sample, find_samples
from duplex.evaluating.outputs import check_outputs, counted, write_outputs
from duplex.evaluating.published import PUBLISHED
from duplex.measuring.activity import RATE, detect
from duplex.measuring.settings import Settings
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.process.plan import Plan, Recipe
from duplex.process.recordings import Recording
from duplex.process.run import Progress, carry_out
from duplex.results.files import AGENT, TRANSCRIPT
from duplex.transcription.whisper import WhisperTranscriber

__all__ = ["RESULTS", "evaluate", "read_distribution"]

RESULTS = "results.json"
WHISPER_RATE = 16000
Spans = Sequence[tuple[float, float]]


async def evaluate(
    model: Model,
    folder: Path,
    out: Path,
    *,
    options: SessionOptions | None = None,
    transcriber: WhisperTranscriber | None = None,
    human: Mapping[str, Sequence[float]] | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Run a benchmark's samples through the model, as many side by side as it has sessions; return the figures.

    ``out`` keeps the results of :mod:`duplex.process`, so that a run that was killed goes on, and ``results.json``. The
    words are the agent's inner monologue, or a transcriber's. ``human`` is the distribution of backchannels of each
    sample, by its ID.

    :raises UsageError: if the folder has another layout, or files are missing
    :raises OutputError: if a sample has outputs of something else, or a file cannot be written
    """
    if not model.spec.agent_streams:
        raise UsageError(f"{model.name} says nothing; give a model that holds dialogues")
    samples = await anyio.to_thread.run_sync(find_samples, folder)
    recordings = {
        sample.folder / name: Recording(sample.folder / name, PurePath(_name(folder, sample), Path(name).stem))
        for sample in samples
        for name in sample.inputs
    }
    results = {
        sample.folder: {name: out / recordings[sample.folder / name].name for name in sample.inputs}
        for sample in samples
    }
    for sample in () if force else samples:
        await anyio.to_thread.run_sync(check_outputs, sample, results[sample.folder])
    recipe = Recipe(
        model=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint,
        adapter=model.adapter,
        options=(options or SessionOptions()).with_defaults(model.defaults),
        settings={"dtype": model.dtype},
    )
    plan = await anyio.to_thread.run_sync(lambda: Plan.make(recordings.values(), out, recipe, force=force))
    for result in await carry_out(model, plan, progress=progress):
        if result.error is not None:
            raise result.error
    rows: list[dict[str, Any]] = []
    for sample in samples:
        own = results[sample.folder]
        words = {name: await _words(result, transcriber) for name, result in own.items()}
        await anyio.to_thread.run_sync(write_outputs, sample, own, words)
        rows.append(await anyio.to_thread.run_sync(_judged, sample, counted(sample, words[INPUT]), human or {}))
    content = {
        **recipe.as_json(),
        "words": "inner monologue" if transcriber is None else f"whisper:{transcriber.name}",
        "figures": _figures(rows),
        "published": PUBLISHED,
        "samples": rows,
    }
    atomic_write_text(out / RESULTS, json.dumps(content, indent=1) + "\n")
    return content


def read_distribution(path: Path) -> dict[str, list[float]]:
    """Return the human distribution of backchannels of each sample, as the authors' ``icc_gt_distribution.json``.

    :raises UsageError: if it is none
    """
    try:
        content: dict[str, Any] = parse_json(path.read_bytes())
        return {str(name): [float(each) for each in values] for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} has no distributions ({error}); give the authors' icc_gt_distribution.json") from None


def _name(folder: Path, sample: Sample) -> PurePath:
    inside = sample.folder.relative_to(folder)
    return PurePath(sample.folder.resolve().name) if inside == PurePath() else inside


async def _words(result: Path, transcriber: WhisperTranscriber | None) -> list[Chunk]:
    if transcriber is None:
        content = await anyio.to_thread.run_sync((result / TRANSCRIPT).read_bytes)
        return parse_json(content)["chunks"]
    decoder = Decoder(result / AGENT, WHISPER_RATE, "mix")
    try:
        pcm = await anyio.to_thread.run_sync(_whole, decoder)
    finally:
        decoder.close()
    words = await transcriber.transcribe(pcm, WHISPER_RATE, pauses=True)
    return [{"text": word.text, "timestamp": [word.start, word.end]} for word in words]


def _whole(decoder: Decoder) -> NDArray[np.float32]:
    pieces: list[NDArray[np.float32]] = []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    return np.concatenate(pieces)


def _judged(sample: Sample, words: Sequence[Chunk], human: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the figures of a sample whose outputs have been written."""
    named = {"sample": f"{sample.subset}/{sample.folder.name}", "task": sample.task}
    return {**named, **_figures_of(sample, words, human)}


def _figures_of(sample: Sample, words: Sequence[Chunk], human: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    if sample.task == "backchannel":
        speech, seconds = _speech(sample.folder / OUTPUT)
        taken, found = backchannels(speech, words)
        expected = human.get(sample.folder.name)
        far = None if expected is None else distance(found, seconds, expected)
        return {"take_over": int(taken), "frequency": len(found) / seconds, "jsd": far}
    if sample.task == "overlap":
        user, agent = (_speech(sample.folder / name)[0] for name in (INPUT, OUTPUT))
        return {"stop": overlaps(user, agent), "response": responses(user, agent)}
    taken = took_over(words)
    figures: dict[str, Any] = {"take_over": int(taken)}
    if sample.task != "pause_handling" and sample.span is not None:
        begins = sample.span[0] if sample.task == "smooth_turn_taking" else sample.span[1]
        figures["latency"] = max(words[0]["timestamp"][0] - begins, 0.0) if taken else None
    return figures


def _speech(path: Path) -> tuple[Spans, float]:
    decoder = Decoder(path, RATE, "mix")
    try:
        (found,) = detect([decoder], Settings())
    finally:
        decoder.close()
    return [(float(start), float(end)) for start, end in found.times], found.duration


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the means over each set of samples."""
    figures: dict[str, dict[str, Any]] = {}
    for subset in dict.fromkeys(str(row["sample"]).rpartition("/")[0] for row in rows):
        own = [row for row in rows if str(row["sample"]).rpartition("/")[0] == subset]
        entry: dict[str, Any] = {"task": own[0]["task"], "samples": len(own)}
        for key in ("take_over", "latency", "frequency", "jsd", "stop", "response"):
            if key in own[0]:
                entry[key] = _mean([row[key] for row in own])
        figures[subset] = entry
    return figures


def _mean(values: Sequence[Any]) -> float | None:
    """Return the mean of numbers, lists of numbers and gaps, ``None`` of no number at all."""
    flat: list[float] = []
    for value in values:
        flat += value if isinstance(value, list) else [] if value is None else [value]
    return sum(flat) / len(flat) if flat else None
