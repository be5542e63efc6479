"""Recordings through a model, as many side by side as it has places."""

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

import anyio
import anyio.to_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import UserChannel
from duplex.audio.truncation import is_truncated
from duplex.concurrency.groups import ungrouped
from duplex.conversation.local import Conversation
from duplex.engine.model import Model
from duplex.errors import AudioFileError
from duplex.options import SessionOptions
from duplex.process.plan import Plan, Recipe, Result, Task, check_sides, run_record, sha256_of
from duplex.process.recordings import Recording, both_sides, find_recordings
from duplex.process.streams import spooled
from duplex.results.files import ResultWriter
from duplex.transcription.protocol import Transcriber
from duplex.transcription.words import placement_of
from duplex.transports.files import FileTransport

__all__ = ["Progress", "Recorded", "carry_out", "carry_out_side_by_side", "process"]


@attrs.frozen(kw_only=True)
class Progress:
    """How far things are: one recording, and all that are processed in this run. All figures are seconds of audio.

    ``duration`` and ``total`` are ``None`` where headers do not tell. ``result`` is there when the recording has ended.
    """

    recording: Recording
    seconds: float
    duration: float | None
    done: float
    total: float | None
    result: Result | None = None


async def process(  # noqa: PLR0913 -- each is a choice of its own
    model: Model,
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    options: SessionOptions | None = None,
    user_channel: UserChannel = "mix",
    both: bool = False,
    tail: float = 0.0,
    force: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    transcriber: Transcriber | None = None,
) -> list[Result]:
    """Process recordings, and write a folder of results for each below ``out``.

    ``inputs`` are files, folders (searched with all that is below), patterns and pipes; ``"-"`` is the standard input.
    Pipes are read to their end before anything is processed, which cannot be cancelled. As many recordings as the model
    has sessions run side by side. What a run before this one has finished with the same content, checkpoint, options
    and ``settings`` is skipped, unless ``force``. A recording that fails is told in its :class:`Result` and does not
    stop the others. Cancelled, it keeps what is finished, and nothing of the rest.

    ``both`` processes each stereo recording twice, with either channel as the user, into ``NAME/user-left`` and
    ``NAME/user-right``; ``user_channel`` then stays as it is.

    ``tail`` is for how many seconds of silence the agent may go on after the recording's end. ``transcriber`` adds the
    user's words; name it in ``settings``, for results with another to count as others.

    :raises UsageError: if an argument is out of range
    :raises OutputError: if ``out`` cannot be made
    """
    check_sides(user_channel, both=both)
    recipe = Recipe(
        model=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint,
        adapter=model.adapter,
        options=(options or SessionOptions()).with_defaults(model.defaults),
        user_channel=user_channel,
        tail=tail,
        settings=settings or {},
    )
    recordings = await anyio.to_thread.run_sync(find_recordings, list(inputs), out)
    with contextlib.ExitStack() as copies:
        copied = await anyio.to_thread.run_sync(copies.enter_context, spooled(recordings))
        plan = await anyio.to_thread.run_sync(
            partial(Plan.make, both_sides(copied) if both else copied, out, recipe, force=force)
        )
        return await carry_out(model, plan, progress=progress, transcriber=transcriber)


async def carry_out(
    model: Model,
    plan: Plan,
    *,
    progress: Callable[[Progress], None] | None = None,
    transcriber: Transcriber | None = None,
) -> list[Result]:
    """Process what a plan has left to do; return the results of all its recordings, in order."""

    async def process_one(task: Task, heard: Callable[[float], None]) -> Result:
        return await _process_one(model, task, plan.recipe, heard, transcriber)

    return await carry_out_side_by_side(plan, model.sessions, process_one, progress)


Work = Callable[[Task, Callable[[float], None]], Awaitable[Result]]
"""Processes one recording, and tells how many seconds of it have been heard."""


async def carry_out_side_by_side(
    plan: Plan, side_by_side: int, process_one: Work, progress: Callable[[Progress], None] | None
) -> list[Result]:
    """Process what a plan has left to do, so many at a time; return the results of all its recordings, in order."""
    waiting = deque(plan.tasks)
    results: list[Result] = []
    tracker = _Tracker(plan.tasks, progress)

    async def work() -> None:
        while waiting:
            task = waiting.popleft()
            result = await _run(task, process_one, partial(tracker.heard, task))
            results.append(result)
            tracker.ended(task, result)

    with ungrouped():
        async with anyio.create_task_group() as workers:
            for _ in range(min(side_by_side, len(waiting))):
                workers.start_soon(work)
    return plan.in_order(results)


class Recorded(FileTransport):
    """A recording with ``tail`` seconds of silence after its end."""

    def __init__(self, recording: Recording, *, user_channel: UserChannel, tail: float) -> None:
        super().__init__(recording.path, user_channel=user_channel)
        self._content = recording.content
        self._tail = tail
        self._stretch = recording.stretch or (0.0, None)
        self._silence = self._rate = self._samples = self._at = 0

    @property
    def seconds(self) -> float:
        """Seconds of the recording that have been read."""
        return self._samples / self._rate if self._rate else 0.0

    async def start(self, sample_rate: int) -> None:
        """Open the recording."""
        await super().start(sample_rate)
        self._rate = sample_rate
        self._silence = round(self._tail * sample_rate)

    async def receive(self) -> NDArray[np.float32]:
        """Return the next second or so of the recording, and then of the silence."""
        try:
            pcm = await self._heard()
        except anyio.EndOfStream:
            if not self._silence:
                raise
        else:
            self._samples += len(pcm)
            return pcm
        samples = min(self._silence, self._rate)
        self._silence -= samples
        return np.zeros(samples, np.float32)

    async def _heard(self) -> NDArray[np.float32]:
        """Return the next piece that lies in the stretch."""
        start, end = (None if each is None else round(each * self._rate) for each in self._stretch)
        while end is None or self._at < end:
            try:
                pcm = await super().receive()
            except anyio.EndOfStream:
                if self._at <= (start or 0) and start:
                    raise AudioFileError(
                        f"{self.path} has {self._at / self._rate:.2f} s, but the stretch of it begins at "
                        f"{start / self._rate:g} s; mend its start"
                    ) from None
                raise
            kept = pcm[max((start or 0) - self._at, 0) : None if end is None else end - self._at]
            self._at += len(pcm)
            if len(kept):
                return kept
        raise anyio.EndOfStream


class _Tracker:
    """Adds up the progress of all recordings."""

    def __init__(self, tasks: Iterable[Task], report: Callable[[Progress], None] | None) -> None:
        self._report = report
        self._seconds: dict[PurePath, float] = {task.recording.name: 0.0 for task in tasks}
        self._durations = {task.recording.name: task.duration for task in tasks}

    def heard(self, task: Task, seconds: float) -> None:
        self._tell(task, seconds, None)

    def ended(self, task: Task, result: Result) -> None:
        # What was heard counts, not what headers said.
        name = task.recording.name
        self._durations[name] = self._seconds[name] if result.status == "failed" else result.seconds
        self._tell(task, self._durations[name] or 0.0, result)

    def _tell(self, task: Task, seconds: float, result: Result | None) -> None:
        name = task.recording.name
        self._seconds[name] = seconds
        if self._report is None:
            return
        known = [duration for duration in self._durations.values() if duration is not None]
        self._report(
            Progress(
                recording=task.recording,
                seconds=seconds,
                duration=self._durations[name],
                done=sum(self._seconds.values()),
                total=sum(known) if len(known) == len(self._durations) else None,
                result=result,
            )
        )


async def _run(task: Task, process_one: Work, heard: Callable[[float], None]) -> Result:
    """Process one recording; whatever goes wrong with it is its own."""
    try:
        return await process_one(task, heard)
    except Exception as error:  # noqa: BLE001 -- the other recordings must not suffer
        return Result(recording=task.recording, folder=task.folder, status="failed", error=error)


async def _process_one(
    model: Model, task: Task, recipe: Recipe, heard: Callable[[float], None], transcriber: Transcriber | None
) -> Result:
    heard(0.0)
    recording, placement = task.recording, placement_of(model)
    sha256 = await anyio.to_thread.run_sync(sha256_of, recording)
    transport = Recorded(recording, user_channel=recipe.of(recording).user_channel, tail=recipe.tail)
    with ResultWriter(
        task.folder, model.spec, model.tokenizer, user_words=transcriber is not None, placement=placement
    ) as writer:
        started = time.perf_counter()
        async with Conversation(
            model, transport, options=recipe.options, wait=math.inf, recorder=writer, transcriber=transcriber
        ) as conversation:
            async for event in conversation:
                writer.event(event)
                if writer.due:
                    await anyio.to_thread.run_sync(writer.flush)
                    heard(writer.seconds)
        seconds = writer.seconds
        factor = (time.perf_counter() - started) / seconds
        cut = recording.stretch is None and await anyio.to_thread.run_sync(
            is_truncated, recording.content, seconds - recipe.tail
        )
        run = run_record(
            recording,
            recipe,
            sha256=sha256,
            seconds=seconds,
            real_time_factor=factor,
            cut_short=cut,
            products=model.products,
        )
        await anyio.to_thread.run_sync(writer.commit, run)
        return Result(
            recording=recording,
            folder=task.folder,
            status="done",
            seconds=seconds,
            real_time_factor=factor,
            text=writer.text if placement is None else "",
            user_text=writer.user_text,
            cut_short=cut,
        )
