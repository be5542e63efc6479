"""The published layout of Full-Duplex-Bench, v1.0 and v1.5: ``TASK/ID/`` with ``input.wav`` and an annotation.

What a sample's task is, its annotation tells: ``pause.json``, ``turn_taking.json``, ``interrupt.json``, or, of v1.5,
``metadata.json`` beside ``clean_input.wav``. One without any is of the task backchannel, if its folder's name says so.
"""

from pathlib import Path
from typing import Any, Literal

import attrs

from duplex.audio.folders import walk
from duplex.errors import UsageError
from duplex.parsing import parse_json

__all__ = ["CLEAN_INPUT", "CLEAN_OUTPUT", "INPUT", "OUTPUT", "Sample", "find_samples"]

INPUT, OUTPUT = "input.wav", "output.wav"
CLEAN_INPUT, CLEAN_OUTPUT = "clean_input.wav", "clean_output.wav"
Task = Literal["pause_handling", "backchannel", "smooth_turn_taking", "user_interruption", "overlap"]
ANNOTATIONS: dict[str, Task] = {
    "pause.json": "pause_handling",
    "turn_taking.json": "smooth_turn_taking",
    "interrupt.json": "user_interruption",
}
METADATA = "metadata.json"
_FILES = {INPUT, *ANNOTATIONS, METADATA}
"""A folder with any of these is a sample."""
BACKCHANNEL = ("backchannel", "icc")


@attrs.frozen(kw_only=True)
class Sample:
    """A sample: its folder, its task, the name of its set, and when what is asked about happens, in seconds.

    ``span`` is the annotation's ``[start, end]``; ``None`` of a backchannel.
    """

    folder: Path
    task: Task
    subset: str
    span: tuple[float, float] | None

    @property
    def inputs(self) -> dict[str, str]:
        """What goes through the model, and what it becomes."""
        clean = {CLEAN_INPUT: CLEAN_OUTPUT} if self.task == "overlap" else {}
        return {INPUT: OUTPUT, **clean}


def find_samples(folder: Path) -> list[Sample]:
    """Return the samples of a benchmark, of one of its tasks, or one sample alone.

    :raises UsageError: if there are none, a file is missing, or an annotation is another than it should be
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give that of the benchmark, with TASK/ID/{INPUT}")
    folders = sorted((each for each, names in walk(folder) if _FILES.intersection(names)), key=str)
    samples = [_sample(each) for each in folders]
    if not samples:
        raise UsageError(f"{folder} has no samples; they are folders TASK/ID with {INPUT} and an annotation")
    return samples


def _sample(folder: Path) -> Sample:
    if not (folder / INPUT).is_file():
        raise UsageError(f"{folder} has no {INPUT}; download the sample again")
    subset = folder.resolve().parent.name
    found = [name for name in ANNOTATIONS if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{folder} has {' and '.join(found)}; a sample has one annotation")
    if found:
        span = _span(folder / found[0], 0, "timestamp")
        return Sample(folder=folder, task=ANNOTATIONS[found[0]], subset=subset, span=span)
    if (folder / METADATA).is_file():
        if not (folder / CLEAN_INPUT).is_file():
            raise UsageError(f"{folder} has {METADATA}, but no {CLEAN_INPUT}; download the sample again")
        span = _span(folder / METADATA, "timestamps")
        return Sample(folder=folder, task="overlap", subset=subset, span=span)
    if any(word in subset.lower() for word in BACKCHANNEL):
        return Sample(folder=folder, task="backchannel", subset=subset, span=None)
    raise UsageError(f"{folder} has no annotation ({', '.join(ANNOTATIONS)}, {METADATA}); download the sample again")


def _span(path: Path, *keys: int | str) -> tuple[float, float]:
    """Return the times in a file, which lie where ``keys`` lead."""
    try:
        content: Any = parse_json(path.read_bytes())
        for key in keys:
            content = content[key]
        start, end = (float(each) for each in content)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{path} has no timestamps ({error}); download the sample again") from None
    if not 0 <= start <= end < float("inf"):
        raise UsageError(f"{path} has timestamps from {start} to {end}; download the sample again")
    return start, end
