"""Measure a transcriber beside a dialogue model: the errors of `UserText`, and how late its words come.

    python benchmarks/user_words.py [--model tiny|DIR] [--transcriber whisper:NAME|MODEL] [--questions 306]
        [--sessions 2] [--out results.json]

Questions come in voices and phrasings that training never has, as in `conversation_quality.py`, and are spoken at the
pace of a clock: a word's delay is from its end in the user's audio, sent at that pace, to its event. Needs the extras
`train` and `transcribe`, the group `benchmark`, and the programs flite and espeak-ng.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

import duplex
from codec_words import count_errors
from conversation_calls import FRAME, RATE
from conversation_questions import Question, questions
from duplex.transcription.loading import load_transcriber

Float32 = NDArray[np.float32]
AFTER = 3.0
"""Seconds of silence after a question."""


async def converse(
    model: duplex.Model, transcriber: duplex.Transcriber, question: Question, seed: int
) -> tuple[str, list[float], int]:
    """Return the text, each word's delay in seconds, and how many stretches were left out."""
    transport = duplex.MemoryTransport(realtime=True, keep=False)
    pcm = question.pcm[: round((question.end + AFTER) * RATE)]
    words: list[str] = []
    delays: list[float] = []
    missed = 0

    async def speak() -> None:
        for index, frame in enumerate(np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME)):
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
    return " ".join(words), delays, missed


async def measure(
    model: duplex.Model, transcriber: duplex.Transcriber, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures."""
    asked = questions(arguments.questions)
    waiting = list(enumerate(asked))[::-1]
    heard: dict[int, tuple[str, list[float], int]] = {}

    async def work() -> None:
        while waiting:
            index, question = waiting.pop()
            heard[index] = await converse(model, transcriber, question, index)

    async with anyio.create_task_group() as tasks:
        for _ in range(arguments.sessions):
            tasks.start_soon(work)
    said = [question.exchange.question.replace("|", "") for question in asked]
    found = [heard[index][0] for index in range(len(asked))]
    delays = [delay for _, each, _ in heard.values() for delay in each]
    errors = count_errors(said, found)
    return {
        "questions": len(asked),
        "word_error_rate": errors.rate,
        "without_words": sum(not text for text in found),
        "delay_seconds": {
            name: round(float(np.percentile(delays, share)), 3) for name, share in (("median", 50), ("p95", 95))
        },
        "lags": sum(missed for _, _, missed in heard.values()),
        "pairs": list(zip(said, found, strict=True)),
    }


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--transcriber", required=True, metavar="whisper:NAME|MODEL")
    parser.add_argument("--questions", type=int, default=306)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
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
