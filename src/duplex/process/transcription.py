"""The words of recordings, as many side by side as there are places: :func:`transcribe`."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import numpy as np

from duplex.atomic import atomic_write_bytes
from duplex.audio.pcm import UserChannel
from duplex.audio.truncation import is_truncated
from duplex.conversation.local import Conversation
from duplex.conversation.transcript import UserTranscript
from duplex.engine.model import Model
from duplex.errors import UsageError
from duplex.events import UserText
from duplex.options import SessionOptions
from duplex.process.plan import Plan, Recipe, Result, Task
from duplex.process.recorded import Recorded
from duplex.process.recordings import find_recordings
from duplex.process.run import Progress, carry_out_side_by_side
from duplex.process.run_record import run_record, sha256_of
from duplex.process.streams import spooled
from duplex.results.files import RUN, USER_TRANSCRIPT
from duplex.results.folder import claim, replace
from duplex.results.subtitles import FORMATS, SUBTITLES, TranscriptFormat, render
from duplex.transcription.protocol import Word
from duplex.transcription.whisper import WhisperTranscriber
from duplex.transcription.words import placement_of

__all__ = [
    "checked_formats",
    "transcribe",
    "transcribe_plan",
    "transcript_name",
    "transcription_recipe",
    "wanted",
    "whisper_recipe",
]

WHISPER_RATE = 16000
Heard = Callable[[float], None]


async def transcribe(
    recognizer: Model | WhisperTranscriber,
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    formats: Sequence[TranscriptFormat] = ("json",),
    user_channel: UserChannel = "mix",
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> list[Result]:
    """Transcribe recordings, and write a folder of transcripts for each below ``out``.

    ``recognizer`` is a recognition model, with as many recordings side by side as it has sessions, or a
    :class:`duplex.WhisperTranscriber`. ``user_transcript.json`` is always written; ``"srt"``, ``"vtt"`` and ``"text"``
    are further ``formats``. Everything else is as in :func:`duplex.process.process`.

    :raises UsageError: if the model does not recognise speech, or an argument is out of range
    :raises OutputError: if ``out`` cannot be made
    """
    recipe = transcription_recipe(recognizer, formats, user_channel)
    recordings = await anyio.to_thread.run_sync(find_recordings, list(inputs), out)
    with contextlib.ExitStack() as copies:
        copied = await anyio.to_thread.run_sync(copies.enter_context, spooled(recordings))
        plan = await anyio.to_thread.run_sync(partial(Plan.make, copied, out, recipe, force=force))
        return await transcribe_plan(recognizer, plan, formats, progress=progress)


def transcription_recipe(
    recognizer: Model | WhisperTranscriber, formats: Sequence[TranscriptFormat], user_channel: UserChannel = "mix"
) -> Recipe:
    """Return what decides the transcripts.

    :raises UsageError: if the model does not recognise speech, or there is no such format
    """
    if isinstance(recognizer, WhisperTranscriber):
        return whisper_recipe(recognizer.name, recognizer.language, formats, user_channel)
    if placement_of(recognizer) is None:
        raise UsageError(
            f"{recognizer.name} is a model of kind {recognizer.spec.kind!r}, which does not recognise speech; give one "
            "that does, or transcribe with Whisper"
        )
    return Recipe(
        model=recognizer.name,
        revision=recognizer.revision,
        fingerprint=recognizer.fingerprint,
        adapter=recognizer.adapter,
        options=SessionOptions(seed=0).with_defaults(recognizer.defaults),
        user_channel=user_channel,
        settings={**wanted(formats), "dtype": recognizer.dtype, "device": recognizer.device},
    )


def whisper_recipe(
    name: str, language: str | None, formats: Sequence[TranscriptFormat], user_channel: UserChannel = "mix"
) -> Recipe:
    """Return what decides the transcripts of a Whisper model, which need not be loaded.

    :raises UsageError: if there is no such format
    """
    settings = {**wanted(formats), "language": language}
    options = SessionOptions(seed=0)
    return Recipe(model=f"whisper:{name}", options=options, user_channel=user_channel, settings=settings)


def wanted(formats: Sequence[TranscriptFormat]) -> dict[str, Any]:
    """Return what a recipe says of the transcripts themselves.

    :raises UsageError: if there is no such format
    """
    return {"formats": checked_formats(formats), "task": "transcribe"}


def checked_formats(formats: Sequence[str]) -> list[TranscriptFormat]:
    """Return formats of transcripts, without those given twice.

    :raises UsageError: if there is none, or one is unknown
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        raise UsageError(f"there is no format {', '.join(unknown) or 'given'}; give some of {', '.join(FORMATS)}")
    return [form for form in FORMATS if form in formats]


async def transcribe_plan(
    recognizer: Model | WhisperTranscriber,
    plan: Plan,
    formats: Sequence[TranscriptFormat],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> list[Result]:
    """Transcribe what a plan has left to do; return the results of all its recordings, in order."""
    whisper = isinstance(recognizer, WhisperTranscriber)

    async def transcribe_one(task: Task, heard: Heard) -> Result:
        heard(0.0)
        transport = Recorded(task.recording, user_channel=plan.recipe.user_channel, tail=0.0)
        sha256 = await anyio.to_thread.run_sync(sha256_of, task.recording)
        started = time.perf_counter()
        found = (
            await _by_whisper(recognizer, transport)
            if isinstance(recognizer, WhisperTranscriber)
            else await _by_model(recognizer, plan.recipe.options, transport, heard)
        )
        factor = (time.perf_counter() - started) / max(found.seconds, 1e-9)
        cut = await anyio.to_thread.run_sync(is_truncated, task.recording.content, found.seconds)
        run = run_record(
            task.recording,
            plan.recipe.of(task.recording).as_json(),
            sha256=sha256,
            seconds=found.seconds,
            real_time_factor=factor,
            cut_short=cut,
            products=None if isinstance(recognizer, WhisperTranscriber) else recognizer.products,
        )
        await anyio.to_thread.run_sync(_write, task.folder, found.transcript, formats, run)
        return Result(
            recording=task.recording,
            folder=task.folder,
            status="done",
            seconds=found.seconds,
            real_time_factor=factor,
            user_text=found.transcript.as_json()["text"],
            cut_short=cut,
        )

    return await carry_out_side_by_side(plan, 1 if whisper else recognizer.sessions, transcribe_one, progress)


@attrs.define
class _Found:
    transcript: UserTranscript = attrs.Factory(UserTranscript)
    seconds: float = 0.0


async def _by_model(model: Model, options: SessionOptions, transport: Recorded, heard: Heard) -> _Found:
    found = _Found()
    async with Conversation(model, transport, options=options, wait=math.inf) as conversation:
        async for event in conversation:
            if isinstance(event, UserText):
                found.transcript.feed(event.text, event.start, event.end)
            found.seconds = transport.seconds
            heard(found.seconds)
    return found


async def _by_whisper(whisper: WhisperTranscriber, transport: Recorded) -> _Found:
    await transport.start(WHISPER_RATE)
    pieces = [np.zeros(0, np.float32)]
    try:
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                pieces.append(await transport.receive())
    finally:
        await transport.aclose()
    pcm = np.concatenate(pieces)
    words: Sequence[Word] = await whisper.transcribe(pcm, WHISPER_RATE, pauses=True)
    found = _Found(seconds=len(pcm) / WHISPER_RATE)
    for word in words:
        found.transcript.feed(word.text, word.start, word.end)
    return found


def _write(folder: Path, transcript: UserTranscript, formats: Sequence[TranscriptFormat], run: dict[str, Any]) -> None:
    """Write the files of a recording, each whole; ``run.json``, which says that all are there, comes last."""
    written: list[TranscriptFormat] = [form for form in FORMATS if form == "json" or form in formats]
    files = sorted(transcript_name(form) for form in written)
    with contextlib.closing(claim(folder)):
        replace(folder, files)
        for form in written:
            atomic_write_bytes(folder / transcript_name(form), render(transcript.as_json(), form))
        atomic_write_bytes(folder / RUN, (json.dumps({**run, "files": files}, indent=1) + "\n").encode())


def transcript_name(form: TranscriptFormat) -> str:
    """Return the name of a transcript's file in a format."""
    return USER_TRANSCRIPT if form == "json" else SUBTITLES[form]
