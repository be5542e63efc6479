"""Measure a transcriber beside a dialogue model: the errors of `UserText`, and how late its words come.

    python benchmarks/user_words.py [--model tiny|DIR] [--transcriber whisper:NAME|MODEL] [--questions 306]
        [--sessions 2] [--offline] [--out results.json]

Questions come in voices and phrasings that training never has, as in `conversation_quality.py`, and are spoken at the
pace of a clock: a word's delay is from its end in the user's audio, sent at that pace, to its event. Needs the extras
`train` and `transcribe`, the group `benchmark`, and the programs flite and espeak-ng.

With `--offline` there is no clock, so nothing is lost on a busy machine: one conversation at a time, frame by frame,
which waits while a turn is transcribed. A word's delay is then from its end to the frame that told the end of its turn,
on the conversation's time line, and the processor's time that Whisper took from there (it has one thread), which is
given by itself too. `--minutes` is how long questions are asked at most.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

import duplex
from codec_words import Errors, count_errors
from conversation_calls import FRAME, RATE
from conversation_questions import Question, each_question, questions
from duplex.errors import UsageError
from duplex.transcription.loading import WHISPER, load_transcriber
from duplex.transcription.protocol import Missed, Transcription, Word

Float32 = NDArray[np.float32]
AFTER = 3.0
"""Seconds of silence after a question."""
TOLD = 20
"""After how many questions something is told."""


@attrs.frozen
class Heard:
    """What came of a question: its text, each word's delay in seconds, and how many stretches were left out.

    ``computing`` is what the transcriber took for each turn, in seconds, where that was measured.
    """

    text: str
    delays: list[float]
    computing: list[float] = attrs.Factory(list[float])
    missed: int = 0


class TimedTurns:
    """A transcription of turns that holds its conversation back meanwhile, and notes how late each word comes."""

    def __init__(self, inner: Transcription) -> None:
        self._inner = inner
        self.place = 0.0
        """How far it has heard, in seconds."""
        self.heard = anyio.Event()
        self._speaking = False
        self._handed: tuple[float, float] | None = None
        """Where on the time line the turn that waits was handed over, and the processor's time then."""
        self._done = anyio.Event()
        self.delays: list[float] = []
        self.computing: list[float] = []

    def hear(self, at: float, pcm: Float32) -> None:
        """Pass it on, as all else."""
        self.place = at + len(pcm) / RATE
        self._inner.hear(at, pcm)
        self.heard.set()
        self.heard = anyio.Event()

    def turn(self, *, started: bool, at: float) -> None:
        """Note when a turn ends."""
        self._speaking = started
        if not started:
            self._hand_over()
        self._inner.turn(started=started, at=at)

    async def room(self) -> None:
        """Wait until the turn that has ended is transcribed."""
        if self._handed is not None:
            await self._done.wait()

    def finish(self) -> None:
        """Note that the last turn ends."""
        if self._speaking:
            self._hand_over()
        self._inner.finish()

    async def receive(self) -> Sequence[Word | Missed]:
        """Note how late words come."""
        found = await self._inner.receive()
        if self._handed is not None:
            place, began = self._handed
            took = time.process_time() - began
            self.computing.append(took)
            self.delays += [place + took - word.end for word in found if isinstance(word, Word)]
            self._handed = None
            self._done.set()
        return found

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def _hand_over(self) -> None:
        self._done = anyio.Event()
        self._handed = self.place, time.process_time()


@attrs.define
class TimedTranscriber:
    """Opens :class:`TimedTurns`."""

    inner: duplex.Transcriber
    turns: list[TimedTurns] = attrs.Factory(list[TimedTurns])

    def open(self, sample_rate: int, *, realtime: bool) -> TimedTurns:
        """Open one."""
        self.turns.append(TimedTurns(self.inner.open(sample_rate, realtime=realtime)))
        return self.turns[-1]


def framed(question: Question) -> Float32:
    """Return a question with a silence after it, float32 ``[frames, frame_size]``."""
    pcm = question.pcm[: round((question.end + AFTER) * RATE)]
    return np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME)


async def converse_offline(
    model: duplex.Model, transcriber: duplex.Transcriber, question: Question, seed: int
) -> Heard:
    """Ask a question as fast as the machine can; the model has nothing to do while a turn is transcribed."""
    timed = TimedTranscriber(transcriber)
    options = duplex.SessionOptions(seed=seed)
    events: list[duplex.Event] = []

    async def speak() -> None:
        for index, frame in enumerate(framed(question)):
            await conversation.send(frame)
            while timed.turns[0].place < (index + 0.5 - model.spec.latency_frames) * FRAME / RATE:
                await timed.turns[0].heard.wait()
        await conversation.finish()

    async with (
        duplex.Conversation(model, options=options, transcriber=timed, audio_events=False) as conversation,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(speak)
        events += [event async for event in conversation]
    text = " ".join(event.text for event in events if isinstance(event, duplex.UserText))
    missed = sum(isinstance(event, duplex.Lag) for event in events)
    return Heard(text, timed.turns[0].delays, timed.turns[0].computing, missed)


async def converse(model: duplex.Model, transcriber: duplex.Transcriber, question: Question, seed: int) -> Heard:
    """Ask a question at the pace of a clock."""
    transport = duplex.MemoryTransport(realtime=True, keep=False)
    words: list[str] = []
    delays: list[float] = []
    missed = 0

    async def speak() -> None:
        for index, frame in enumerate(framed(question)):
            await anyio.sleep_until(began + (index + 1) * FRAME / RATE)
            await transport.feed(frame)
        await transport.end()

    options = duplex.SessionOptions(seed=seed)
    async with (
        duplex.Conversation(
            model, transport, options=options, transcriber=transcriber, wait=60, audio_events=False
        ) as conversation,
        anyio.create_task_group() as tasks,
    ):
        began = anyio.current_time()
        tasks.start_soon(speak)
        async for event in conversation:
            if isinstance(event, duplex.UserText):
                words.append(event.text)
                delays.append(anyio.current_time() - began - event.end)
            missed += isinstance(event, duplex.Lag)
    return Heard(" ".join(words), delays, missed=missed)


async def measure(
    model: duplex.Model, transcriber: duplex.Transcriber, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures."""
    speak = each_question if arguments.offline else questions  # speaking takes time, which a clock does not give
    waiting = enumerate(speak(arguments.questions))
    asked: dict[int, Question] = {}
    heard: dict[int, Heard] = {}
    ask = converse_offline if arguments.offline else converse

    async def work() -> None:
        while anyio.current_time() < until and (following := next(waiting, None)) is not None:
            index, question = following
            asked[index] = question
            heard[index] = await ask(model, transcriber, question, index)
            if len(heard) % TOLD == 0:
                print(f"{len(heard)} of {arguments.questions}", file=sys.stderr, flush=True)

    until = anyio.current_time() + 60 * arguments.minutes
    async with anyio.create_task_group() as tasks:
        for _ in range(arguments.sessions):
            tasks.start_soon(work)
    order = sorted(heard)
    said = [asked[index].exchange.question.replace("|", "") for index in order]
    found = [heard[index].text for index in order]
    errors = count_errors(said, found)
    _, low, high = errors.above(Errors(errors=(0,) * len(asked), words=errors.words))
    figures = {
        "questions": len(asked),
        "word_error_rate": errors.rate,
        "interval_95": [low, high],
        "without_words": sum(not text for text in found),
        "delay_seconds": spread([delay for each in heard.values() for delay in each.delays]),
        "lags": sum(each.missed for each in heard.values()),
        "by_voice": {
            voice: count_errors(*zip(*pairs, strict=True)).rate
            for voice, pairs in by_voice([asked[index] for index in order], said, found).items()
        },
        "pairs": list(zip(said, found, strict=True)),
    }
    if arguments.offline:
        figures["computing_seconds"] = spread([took for each in heard.values() for took in each.computing])
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    return {name: round(float(np.percentile(values, share)), 3) for name, share in (("median", 50), ("p95", 95))}


def by_voice(asked: Sequence[Question], said: Sequence[str], found: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return what was said and what was found, by voice."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for question, *pair in zip(asked, said, found, strict=True):
        pairs.setdefault(question.voice, []).append((pair[0], pair[1]))
    return pairs


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--transcriber", required=True, metavar="whisper:NAME|MODEL")
    parser.add_argument("--questions", type=int, default=306)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--offline", action="store_true", help="no clock, one conversation at a time")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
    if arguments.offline:
        if not arguments.transcriber.startswith(WHISPER):
            raise UsageError("--offline is for whisper:NAME, which transcribes turns; leave it out")
        arguments.sessions = 1
    with (
        duplex.load(arguments.model, sessions=arguments.sessions) as model,
        load_transcriber(arguments.transcriber, sessions=arguments.sessions) as transcriber,
    ):
        figures = anyio.run(lambda: measure(model, transcriber, arguments))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name != "pairs"}, indent=1))


if __name__ == "__main__":
    main()
