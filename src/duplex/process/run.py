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
from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.process.beginning import Beginning, check_beginning, write_beginning
from duplex.process.pairs import Pair
from duplex.process.plan import Plan, Recipe, Result, Task
from duplex.process.recorded import Recorded, StateKeeper
from duplex.process.recordings import Recording, find_recordings
from duplex.process.run_record import beginning_of, run_record, sha256_of
from duplex.process.sides import AgentChannel, check_sides, of_sides
from duplex.process.states import SavedStart
from duplex.process.streams import spooled
from duplex.results.writer import ResultWriter
from duplex.transcription.protocol import Transcriber
from duplex.transcription.words import placement_of

__all__ = ["Progress", "carry_out", "carry_out_side_by_side", "process"]


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
    agent_channel: AgentChannel | None = None,
    begin_at: float | None = None,
    pair: Pair | None = None,
    state: SavedStart | None = None,
    save_state: bool = False,
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

    ``both`` processes each dialogue twice, with either channel as the user, into ``NAME/user-left`` and
    ``NAME/user-right``; ``user_channel`` then stays as it is. With ``agent_channel`` the model takes the place of the
    speaker on that channel, from ``begin_at`` seconds on: until then it is fed what both said. A dialogue is a stereo
    recording, or two mono files with a speaker each, whose names are a ``pair`` of patterns (the usual ones, if left
    out).

    The conversation goes on from ``state`` (:func:`read_state`), whose options it has; ``save_state`` writes
    ``state.safetensors``, the conversation at the recording's end.

    ``tail`` is for how many seconds of silence the agent may go on after the recording's end. ``transcriber`` adds the
    user's words; name it in ``settings``, for results with another to count as others.

    :raises UsageError: if an argument is out of range
    :raises OutputError: if ``out`` cannot be made
    """
    check_sides(user_channel, both=both, agent_channel=agent_channel, begin_at=begin_at, pair=pair)
    if state is not None and options is not None:
        raise UsageError("a saved conversation goes on with its own options; leave options out")
    chosen = (options or SessionOptions()).with_defaults(model.defaults) if state is None else state.options
    own = model.check_adapter(chosen) if state is None else None  # a state knows its own
    recipe = Recipe(
        model=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint,
        adapter=model.adapter,
        options=chosen,
        user_channel=user_channel,
        begin_at=begin_at,
        state=state,
        save_state=save_state,
        tail=tail,
        settings={**(settings or {}), **({} if own is None else {"adapter_fingerprint": own})},
    )
    recordings = await anyio.to_thread.run_sync(find_recordings, list(inputs), out)
    with contextlib.ExitStack() as copies:
        copied = await anyio.to_thread.run_sync(copies.enter_context, spooled(recordings))
        wanted = await anyio.to_thread.run_sync(
            partial(of_sides, copied, both=both, agent_channel=agent_channel, pair=pair)
        )
        plan = await anyio.to_thread.run_sync(partial(Plan.make, wanted, out, recipe, force=force))
        return await carry_out(model, plan, progress=progress, transcriber=transcriber)


async def carry_out(
    model: Model,
    plan: Plan,
    *,
    progress: Callable[[Progress], None] | None = None,
    transcriber: Transcriber | None = None,
) -> list[Result]:
    """Process what a plan has left to do; return the results of all its recordings, in order.

    :raises UsageError: if the model only listens, and the recipe is one for a model that converses
    """
    check_beginning(plan.recipe, model)

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
    beginning = Beginning.of(recipe, model.spec)
    sha256 = await anyio.to_thread.run_sync(sha256_of, recording)
    before = await anyio.to_thread.run_sync(beginning_of, recording, recipe.begin_at)
    with ResultWriter(
        task.folder,
        model.spec,
        model.tokenizer,
        user_words=transcriber is not None,
        placement=placement,
        origin=beginning.origin,
    ) as writer:
        history = await anyio.to_thread.run_sync(
            write_beginning, writer, recording, beginning.frames, model.spec, model.codec, model.tokenizer
        )
        started = time.perf_counter()
        async with _conversation(model, task, recipe, writer, history, transcriber) as conversation:
            async for event in conversation:
                writer.event(event)
                if writer.due:
                    await anyio.to_thread.run_sync(writer.flush)
                    heard(writer.seconds)
        seconds = writer.seconds
        factor = (time.perf_counter() - started) / (seconds - model.spec.seconds(beginning.frames))
        cut = recording.stretch is None and await anyio.to_thread.run_sync(
            is_truncated, recording.content, seconds - recipe.tail
        )
        run = run_record(
            recording,
            recipe.of(recording).as_json(),
            sha256=sha256,
            seconds=seconds,
            real_time_factor=factor,
            cut_short=cut,
            beginning=before,
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


def _conversation(
    model: Model,
    task: Task,
    recipe: Recipe,
    writer: ResultWriter,
    history: NDArray[np.int64] | None,
    transcriber: Transcriber | None,
) -> Conversation:
    """Return the conversation of a recording, which ``writer`` is told."""
    spec, beginning = model.spec, Beginning.of(recipe, model.spec)
    keeper = StateKeeper(writer, spec, max(beginning.origin, 0)) if recipe.save_state else None
    transport = Recorded(
        task.recording,
        user_channel=recipe.of(task.recording).user_channel,
        tail=recipe.tail,
        skip=beginning.frames * spec.frame_size,
        frame_size=spec.frame_size,
        at_end=None if keeper is None else lambda samples: keeper.save(conversation, samples),
    )
    conversation = Conversation(
        model,
        transport,
        options=recipe.options,
        wait=math.inf,
        state=None if recipe.state is None else recipe.state.data,
        history=history,
        recorder=keeper or writer,
        transcriber=transcriber,
    )
    return conversation
