"""Measure how well a model converses: answers, timing, interruptions, noise, echo, endurance.

    python benchmarks/conversation_quality.py [--model tiny|DIR] [--questions 306] [--staged 100] [--out results.json]

DIR is a folder in the published layout. Needs the extra `train`, the group `benchmark`, and the programs flite and
espeak-ng. Questions come in voices and phrasings that training never has, from `duplex.training.dialogues`; times are
on the frame clock. An answer is right if it has the fact in it that was asked for.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

import duplex
from codec_speech import Listener, progress
from conversation_calls import RATE, Echoing, Interrupting, Speaking, make_calls
from conversation_measures import answers, floor, interruptions, is_right, share, silent_after, silent_throughout
from conversation_questions import clips, long_answers, questions, walk
from duplex.training.data.voices import UNSEEN

SESSIONS = 16
ECHO_DB = -20.0
ECHO_SECONDS = 10
WALK = 64
"""Questions, of the topics in turn: the first ten and the last ten are of the same ones."""
ENDS = 10


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--questions", type=int, default=306)
    parser.add_argument("--staged", type=int, default=100, help="interruptions, clips of noise, and echoes")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args()


async def measure(model: duplex.Model, count: int, staged: int) -> dict[str, Any]:
    """Return all figures."""
    listener = Listener()
    progress("questions")
    asked = questions(count)
    calls = await make_calls(model, [Speaking(question.pcm) for question in asked], SESSIONS)
    figures: dict[str, Any] = {"answers": answers(asked, calls, listener), "floor": floor(asked, calls)}
    progress("interruptions")
    first, second = long_answers(staged), questions(staged, seed=4)
    interrupting = [
        Interrupting(one.pcm[: round(one.end * RATE)], two.pcm[round(two.start * RATE) : round(two.end * RATE)])
        for one, two in zip(first, second, strict=True)
    ]
    calls = await make_calls(model, interrupting, SESSIONS)
    figures["interruptions"] = interruptions(interrupting, calls, second)
    progress("noise, music and tones")
    noises = await make_calls(model, [Speaking(clip) for clip in clips(staged)], SESSIONS)
    figures["silent_in_noise"] = silent_throughout(noises)
    progress("its own echo")
    figures["echo"] = await _echoes(model, staged)
    progress("a long conversation")
    figures["walk"] = await _walk(model)
    return figures


async def _echoes(model: duplex.Model, count: int) -> dict[str, float]:
    """Return how the agent does that has answered into a microphone that hears it."""
    asked = questions(count, seed=5)
    quiet = np.zeros(ECHO_SECONDS * RATE, np.float32)
    callers = [Echoing(np.concatenate([question.pcm, quiet]), ECHO_DB) for question in asked]
    calls = await make_calls(model, callers, SESSIONS)
    return silent_after(asked, calls)


async def _walk(model: duplex.Model) -> dict[str, Any]:
    """Return how the first and the last answers of one long conversation are."""
    asked = walk(WALK, UNSEEN[0])
    caller = Speaking(np.concatenate([question.pcm for question in asked]))
    (call,) = await make_calls(model, [caller], 1)
    bounds = np.cumsum([0.0, *(len(question.pcm) / RATE for question in asked)])
    right: list[bool] = []
    for question, start, end in zip(asked, bounds, bounds[1:], strict=False):
        told = call.text(start + question.end, end)
        right.append(is_right(told, question.exchange))
    return {
        "minutes": float(bounds[-1]) / 60,
        "right": share(right),
        "first": share(right[:ENDS]),
        "last": share(right[-ENDS:]),
    }


def table(figures: dict[str, Any]) -> Table:
    """Return what is printed."""
    made = Table("", "", title="Conversation")
    told, timing, cut, walked = (figures[name] for name in ("answers", "floor", "interruptions", "walk"))
    for name, value in (
        (f"right answers of {told['questions']}, by the inner monologue", f"{told['right']:.1f} %"),
        ("right answers that Whisper tiny hears", f"{told['right_heard']:.1f} %"),
        ("word errors between the two", f"{told['word_errors']:.1f} %"),
        ("the agent speaks while the user does", f"{timing['overlap']:.1f} % of the time"),
        ("answer time, median and 95 %", f"{1000 * timing['median']:.0f} and {1000 * timing['p95']:.0f} ms"),
        (f"silent within 600 ms of {cut['staged']} interruptions", f"{cut['yielded']:.0f} %"),
        ("right answers to what interrupted", f"{cut['right']:.0f} %"),
        ("silent in noise, music and tones", f"{figures['silent_in_noise']:.0f} %"),
        (f"silent on its own echo at {ECHO_DB:.0f} dB", f"{figures['echo']['silent']:.0f} %"),
        (
            f"{walked['minutes']:.0f} minutes: first and last {ENDS} answers right",
            f"{walked['first']:.0f} and {walked['last']:.0f} %",
        ),
        *((f"right: {name}", f"{value:.0f} %") for kind in told["by"].values() for name, value in kind.items()),
    ):
        made.add_row(name, value)
    return made


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with duplex.load(arguments.model, sessions=SESSIONS) as model:
        figures = anyio.run(measure, model, arguments.questions, arguments.staged)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console(width=120).print(table(figures))


if __name__ == "__main__":
    main()
