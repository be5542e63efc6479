"""What there is to do: which recordings have been processed, which cannot be, and which are left.

Results are finished when their ``run.json`` is there, and stay so while the recording's content, the checkpoint, and
the options are the same.
"""

import contextlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from duplex.atomic import make_folder
from duplex.audio.pcm import UserChannel
from duplex.errors import AudioFileError, DuplexError, OutputError, UsageError
from duplex.options import SessionOptions
from duplex.process.recordings import Recording
from duplex.process.run_record import beginning_of, sha256_of
from duplex.process.states import SavedStart
from duplex.results.files import RESULT_FILES, RUN, STATE, USER_FILES, USER_TRANSCRIPT, read_run, read_text
from duplex.transports.files import probe_duration

__all__ = ["Plan", "Recipe", "Result", "Task"]

LONGEST_TAIL = 3600
STEREO = 2
RATE = 24000
"""Hertz, only to try whether a recording opens."""


def _check_tail(_: object, __: object, value: float) -> None:
    if not 0 <= value <= LONGEST_TAIL:
        raise UsageError(f"tail is {value}; give seconds from 0 to {LONGEST_TAIL}")


@attrs.frozen(kw_only=True)
class Recipe:
    """What decides the results, beside the recording itself.

    ``options`` has no ``None`` in it. ``fingerprint`` tells checkpoints apart (``""`` if unknown: then the name and the
    revision do). ``settings`` says how the model was loaded: dtype, device and the like. ``begin_at`` is when the model
    takes over from the speaker who is not the user, in seconds; ``state`` is what it goes on from; with ``save_state``
    the conversation at its end is one of the results.

    :raises UsageError: if ``tail`` is out of range, or there is a beginning of two kinds
    """

    model: str
    revision: str | None = None
    fingerprint: str = ""
    adapter: str | None = None
    options: SessionOptions
    user_channel: UserChannel = "mix"
    begin_at: float | None = None
    state: SavedStart | None = None
    save_state: bool = False
    tail: float = attrs.field(default=0.0, validator=_check_tail)
    settings: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def __attrs_post_init__(self) -> None:
        """Check that there is one beginning."""
        if self.state is not None and self.begin_at is not None:
            raise UsageError("a saved state has what was said before; leave the agent's channel out, or the state")

    def of(self, recording: Recording) -> "Recipe":
        """Return what decides this recording's results: its own side and stretch are heard, if it has them."""
        own = self if recording.side is None else attrs.evolve(self, user_channel=recording.side)
        if recording.stretch is None:
            return own
        return attrs.evolve(own, settings={**self.settings, "stretch": list(recording.stretch)})

    def as_json(self) -> dict[str, Any]:
        """Return the recipe's part of ``run.json``."""
        sampling = attrs.asdict(self.options, filter=_chosen)
        adapter = {} if self.adapter is None else {"adapter": self.adapter}
        begins: dict[str, Any] = {} if self.begin_at is None else {"begin_at": self.begin_at}
        begins |= {} if self.state is None else {"state": self.state.sha256}
        return {
            "model": self.model,
            "revision": self.revision,
            **adapter,
            "fingerprint": self.fingerprint,
            "options": {**sampling, "user_channel": self.user_channel, "tail": self.tail, **begins, **self.settings},
            "seed": self.options.seed,
        }

    def matches(self, run: Mapping[str, Any]) -> bool:
        """Tell whether results with this ``run.json`` would come out the same again."""
        own = self.as_json()
        if self.save_state and STATE not in run.get("files", []):
            return False
        identity = ("fingerprint",) if self.fingerprint and run.get("fingerprint") else ("model", "revision", "adapter")
        return all(own.get(key) == run.get(key) for key in (*identity, "options", "seed"))


@attrs.frozen(kw_only=True)
class Result:
    """What became of one recording.

    ``real_time_factor`` is computing time over the audio's ``seconds``; below 1 is faster than real time. ``text`` is
    what the agent said, ``user_text`` what the user said if that was transcribed. ``error`` says why it ``"failed"``;
    ``cut_short`` that the recording is only the beginning of what it was, and that this beginning was processed.
    """

    recording: Recording
    folder: Path
    status: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    real_time_factor: float | None = None
    text: str = ""
    user_text: str = ""
    cut_short: bool = False
    error: Exception | None = None


@attrs.frozen(kw_only=True)
class Task:
    """A recording that is to be processed; ``duration`` in seconds is what its headers tell, with the tail."""

    recording: Recording
    folder: Path
    duration: float | None


@attrs.frozen(kw_only=True)
class Plan:
    """All recordings, those that are left as ``tasks``, and the ``results`` of those that are not."""

    recipe: Recipe
    recordings: list[Recording]
    tasks: list[Task]
    results: list[Result]

    @classmethod
    def make(
        cls, recordings: Iterable[Recording], out: str | os.PathLike[str], recipe: Recipe, *, force: bool = False
    ) -> "Plan":
        """Look at the recordings, and at what is in the output folder already. Blocking.

        ``force`` processes also what is finished, and replaces results of another recording.

        :raises OutputError: if the output folder cannot be made
        """
        plan = cls(recipe=recipe, recordings=list(recordings), tasks=[], results=[])
        make_folder(Path(out))
        for recording in plan.recordings:
            folder = Path(out) / recording.name
            try:
                finished = plan._look(recording, folder, force=force)
            except DuplexError as error:
                plan.results.append(Result(recording=recording, folder=folder, status="failed", error=error))
                continue
            if finished is not None:
                plan.results.append(finished)
                continue
            duration = _duration(recording, recipe.tail)
            plan.tasks.append(Task(recording=recording, folder=folder, duration=duration))
        return plan

    def in_order(self, results: Iterable[Result]) -> list[Result]:
        """Return all results in the order of the recordings."""
        every = {result.recording.name: result for result in (*self.results, *results)}
        return [every[recording.name] for recording in self.recordings]

    def _look(self, recording: Recording, folder: Path, *, force: bool) -> Result | None:
        """Return the result of what is finished.

        :raises AudioFileError: if the recording cannot be opened
        :raises OutputError: if its results would replace something else
        """
        _try_to_open(recording)
        for name in (*RESULT_FILES, *USER_FILES, STATE):
            if _same_file(folder / name, recording.path):
                raise OutputError(f"{recording.path} would be overwritten by its own results; choose another --out")
        run = read_run(folder)
        if run is None or force:
            return None
        same_content = run.get("sha256") == sha256_of(recording)
        # A file that has changed is still the same recording; what came through a pipe before is gone.
        same_place = run.get("input") == recording.place and recording.content == recording.path
        if not (same_content or same_place):
            raise OutputError(
                f"{folder} holds the results of another recording, {run.get('input')}; choose another --out, "
                "or replace them with --force"
            )
        same_beginning = run.get("beginning") == beginning_of(recording, self.recipe.begin_at)
        same = same_content and same_beginning and self.recipe.of(recording).matches(run)
        if not (same and _complete(folder, run)):
            return None
        return Result(
            recording=recording,
            folder=folder,
            status="skipped",
            seconds=_number(run.get("seconds")) or 0.0,
            real_time_factor=_number(run.get("real_time_factor")),
            text=read_text(folder),
            user_text=read_text(folder, USER_TRANSCRIPT),
        )


def _try_to_open(recording: Recording) -> None:
    """Learn now, before a model is loaded, what keeps a recording from being heard."""
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

    if os.path.isdir(recording.path):  # noqa: PTH112 -- pathlib's raises for a name that no file can have
        raise AudioFileError(f"{recording.path} has no recordings in it; give a folder that has, or an audio file")
    files = [recording] if recording.other is None else [recording, recording.other]
    for file in files:
        with contextlib.closing(Decoder(file.path, RATE, "mix", content=file.content)) as decoder:
            if recording.side is not None and decoder.channels != (STEREO if len(files) == 1 else 1):
                raise AudioFileError(
                    f"{file.path} has {decoder.channels} channel{'s' * (decoder.channels > 1)}; for a side of a "
                    "dialogue give a stereo recording, a speaker on each channel, or two mono files, NAME-left and "
                    "NAME-right"
                )


def _duration(recording: Recording, tail: float) -> float | None:
    """Return how many seconds there are to hear, as far as headers tell."""
    start, end = recording.stretch or (0.0, None)
    length = probe_duration(recording.content)
    known = [each for each in (length, end) if each is not None]
    return max(min(known) - start, 0.0) + tail if known else None


def _same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)  # noqa: PTH121 -- both may be missing
    except OSError:
        return False


def _complete(folder: Path, run: Mapping[str, Any]) -> bool:
    files: Any = run.get("files")
    return isinstance(files, list) and all((folder / str(name)).is_file() for name in [*files, RUN])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- JSON


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _chosen(field: "attrs.Attribute[Any]", value: object) -> bool:
    """Leave out what has not been chosen, so that a result stays finished for a version that has more to choose."""
    return field.name != "seed" and value is not None and (field.name, value) != ("guidance", 1.0)
