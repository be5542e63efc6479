"""Measure how well a model converses: answers, timing, interruptions, noise, echo, endurance, whole talks, real people.

    python benchmarks/conversation_quality.py [--model tiny|DIR] [--questions 306] [--staged 100] [--parts PART ...]
        [--conversations 20] [--seed N] [--people FOLDER ...] [--styles FOLDER] [--padding-bonus X] [--out results.json]

DIR is a folder in the published layout. Needs the extra `train`, the group `benchmark`, and the programs flite and
espeak-ng. Questions come in voices and phrasings that training never has, from `duplex.training.dialogues`; times are
on the frame clock. `cells` asks in known phrasings and others, in known voices and others; with styles, as
`duplex train dialogues` takes them, there are more voices of both kinds. An answer is right if it has the fact in it
that was asked for. People are recordings of them, those of Debian's asterisk-core-sounds-en-wav, alsa-utils and
pocketsphinx-testdata where they are installed.
"""

import argparse
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

import duplex
from codec_speech import Listener, progress
from conversation_calls import RATE, Agent, Call, Echoing, Interrupting, Speaking, make_calls
from conversation_generated import conversations
from conversation_measures import (
    answers,
    floor,
    interruptions,
    interval,
    is_right,
    share,
    silent_after,
    silent_throughout,
)
from conversation_people import PEOPLE, over_people, recordings, talks
from conversation_questions import TALK, Question, clips, long_answers, questions, walk
from duplex.training.data.voices import HELD_OUT_VOICES, Voice, held_out_styles, user_voices
from duplex.training.dialogues.phrasings import Split

SESSIONS = 16
ECHO_DB = -20.0
ECHO_SECONDS = 10
WALK = 64
"""Questions, of the topics in turn: the first ten and the last ten are of the same ones."""
ENDS = 10
PARTS = ("questions", "cells", "talk", "interruptions", "noise", "echo", "walk", "conversations", "people")


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--questions", type=int, default=306)
    parser.add_argument("--staged", type=int, default=100, help="interruptions, clips of noise, and echoes")
    parser.add_argument("--conversations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="of those; default: drawn anew")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--people", nargs="+", type=Path, default=PEOPLE, metavar="FOLDER", help="recordings of people")
    parser.add_argument("--styles", type=Path, metavar="FOLDER", help="more voices: voices/*.bin of kokoro-js")
    parser.add_argument(
        "--padding-bonus", type=float, help="how slow the agent is to begin, as `duplex process` takes it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args()


async def measure(agent: Agent, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the parts asked for; each part is written as soon as it is there."""
    count, staged, out = arguments.questions, arguments.staged, arguments.out
    figures: dict[str, Any] = {}
    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "questions": lambda: _questions(agent, count),
        "cells": lambda: _cells(agent, count, arguments.styles),
        "talk": lambda: _talk(agent, count),
        "interruptions": lambda: _interruptions(agent, staged),
        "noise": lambda: _noises(agent, staged),
        "echo": lambda: _echoes(agent, staged),
        "walk": lambda: _walk(agent),
        "conversations": lambda: _conversations(agent, arguments.conversations, arguments.seed),
        "people": lambda: _people(agent, [folder for folder in arguments.people if folder.is_dir()]),
    }
    for name in arguments.parts:
        progress(name)
        figures |= await parts[name]()
        if out:
            out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


async def _questions(agent: Agent, count: int) -> dict[str, Any]:
    asked = questions(count)
    calls = await make_calls(agent, [Speaking(question.pcm) for question in asked], SESSIONS)
    return {"answers": answers(asked, calls, Listener()), "floor": floor(asked, calls)}


async def _cells(agent: Agent, count: int, styles: Path | None) -> dict[str, Any]:
    """Ask in phrasings and voices of training, and in others."""
    known, unseen = user_voices(styles), (*HELD_OUT_VOICES, *(held_out_styles(styles) if styles else ()))
    cells: dict[str, tuple[Split, Sequence[Voice]]] = {
        "other phrasings, known voices": ("testing", known),
        "known phrasings, other voices": ("training", unseen),
        "other phrasings, other voices": ("testing", unseen),
    }
    return {"cells": {name: await _asked(agent, count, split, voices) for name, (split, voices) in cells.items()}}


async def _asked(agent: Agent, count: int, split: Split, voices: Sequence[Voice]) -> dict[str, Any]:
    asked = questions(count, seed=6, split=split, voices=voices)
    return _right(asked, await make_calls(agent, [Speaking(question.pcm) for question in asked], SESSIONS))


async def _talk(agent: Agent, count: int) -> dict[str, Any]:
    asked = questions(count // 3, seed=7, topics=TALK)
    calls = await make_calls(agent, [Speaking(question.pcm) for question in asked], SESSIONS)
    return {"talk": _right(asked, calls)}


def _right(asked: Sequence[Question], calls: Sequence[Call]) -> dict[str, Any]:
    right = [is_right(call.text(q.start), q.exchange) for call, q in zip(calls, asked, strict=True)]
    voices = dict.fromkeys(question.voice for question in asked)
    by = {name: share([ok for ok, q in zip(right, asked, strict=True) if q.voice == name]) for name in voices}
    topics = dict.fromkeys(question.exchange.topic for question in asked)
    by |= {name: share([ok for ok, q in zip(right, asked, strict=True) if q.exchange.topic == name]) for name in topics}
    return {"questions": len(asked), "right": share(right), "interval": interval(right), "by": by}


async def _interruptions(agent: Agent, count: int) -> dict[str, Any]:
    first, second = long_answers(count), questions(count, seed=4)
    callers = [
        Interrupting(one.pcm[: round(one.end * RATE)], two.pcm[round(two.start * RATE) : round(two.end * RATE)])
        for one, two in zip(first, second, strict=True)
    ]
    calls = await make_calls(agent, callers, SESSIONS)
    return {"interruptions": interruptions(callers, calls, second)}


async def _noises(agent: Agent, count: int) -> dict[str, Any]:
    calls = await make_calls(agent, [Speaking(clip) for clip in clips(count)], SESSIONS)
    return {"silent_in_noise": silent_throughout(calls)}


async def _echoes(agent: Agent, count: int) -> dict[str, Any]:
    """Have the agent answer into a microphone that hears it."""
    asked = questions(count, seed=5)
    quiet = np.zeros(ECHO_SECONDS * RATE, np.float32)
    callers = [Echoing(np.concatenate([question.pcm, quiet]), ECHO_DB) for question in asked]
    calls = await make_calls(agent, callers, SESSIONS)
    return {"echo": silent_after(asked, calls)}


async def _walk(agent: Agent) -> dict[str, Any]:
    """Hold one long conversation."""
    asked = walk(WALK, HELD_OUT_VOICES[0])
    caller = Speaking(np.concatenate([question.pcm for question in asked]))
    (call,) = await make_calls(agent, [caller], 1)
    bounds = np.cumsum([0.0, *(len(question.pcm) / RATE for question in asked)])
    right: list[bool] = []
    for question, start, end in zip(asked, bounds, bounds[1:], strict=False):
        told = call.text(start + question.end, end)
        right.append(is_right(told, question.exchange))
    minutes = float(bounds[-1]) / 60
    ends = {"first": share(right[:ENDS]), "last": share(right[-ENDS:])}
    return {"walk": {"minutes": minutes, "right": share(right), **ends}}


async def _conversations(agent: Agent, count: int, seed: int) -> dict[str, Any]:
    return {"conversations": await conversations(agent, count, seed, SESSIONS)}


async def _people(agent: Agent, folders: list[Path]) -> dict[str, Any]:
    """Have people talk who do not know that they talk to it."""
    if not folders:
        progress("no recordings of people here; install them with: apt-get install asterisk-core-sounds-en-wav")
        return {}
    alone = recordings(folders)
    figures: dict[str, Any] = {}
    for name, said in (("alone", alone), ("in talks", talks(alone))):
        calls = await make_calls(agent, [Speaking(each.call) for each in said], SESSIONS)
        figures[name] = over_people(said, calls)
    return {"people": figures}


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is printed of the parts that were measured."""
    if told := figures.get("answers"):
        yield f"right answers of {told['questions']}, by the inner monologue", f"{told['right']:.1f} %"
        yield "right answers that Whisper tiny hears", f"{told['right_heard']:.1f} %"
        yield "word errors between the two", f"{told['word_errors']:.1f} %"
    if timing := figures.get("floor"):
        yield "the agent speaks while the user does", f"{timing['overlap']:.1f} % of the time"
        yield "answer time, median and 95 %", f"{1000 * timing['median']:.0f} and {1000 * timing['p95']:.0f} ms"
    yield from _cell_rows(
        {**figures.get("cells", {}), **({"small talk": figures["talk"]} if "talk" in figures else {})}
    )
    if cut := figures.get("interruptions"):
        yield f"silent within 600 ms of {cut['staged']} interruptions", f"{cut['yielded']:.0f} %"
        yield "right answers to what interrupted", f"{cut['right']:.0f} %"
    if "silent_in_noise" in figures:
        yield "silent in noise, music and tones", f"{figures['silent_in_noise']:.0f} %"
    if echo := figures.get("echo"):
        yield f"silent on its own echo at {ECHO_DB:.0f} dB", f"{echo['silent']:.0f} %"
    if walked := figures.get("walk"):
        ends = f"{walked['first']:.0f} and {walked['last']:.0f} %"
        yield f"{walked['minutes']:.0f} minutes: first and last {ENDS} answers right", ends
    yield from _conversation_rows(figures.get("conversations", {}))
    yield from _people_rows(figures.get("people", {}))
    if told:
        for kind in told["by"].values():
            for name, value in kind.items():
                yield f"right: {name}", f"{value:.0f} %"


def _cell_rows(cells: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, cell in cells.items():
        low, high = cell["interval"]
        yield f"right of {cell['questions']}, {name}", f"{cell['right']:.1f} % ({low:.1f} to {high:.1f})"


def _conversation_rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not figures:
        return
    low, high = figures["interval"]
    named = f"{len(figures['each'])} conversations, seed {figures['seed']}"
    yield f"right of {figures['turns']} turns of {named}", f"{figures['right']:.1f} % ({low:.1f} to {high:.1f})"
    yield "conversations without a fault", f"{figures['without a fault']:.0f} %"
    for number, held in enumerate(figures["each"], 1):
        faults = "".join(f"; {fault}" for fault in held["faults"])
        yield f"conversation {number}, {held['voice']}", f"right {held['right']} of {held['turns']}{faults}"


def _people_rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, people in figures.items():
        worst = people["worst"]
        yield (
            f"{people['minutes']:.0f} minutes of people's speech in {people['recordings']} calls, {name}: talks over",
            f"{people['over']:.1f} %, with backchannels {people['with_backchannels']:.1f} %",
        )
        yield "most in", f"{worst['file']}: {worst['seconds']:.1f} of {worst['of']:.1f} s"


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with duplex.load(arguments.model, sessions=SESSIONS) as model:
        agent = Agent(model, duplex.SessionOptions(padding_bonus=arguments.padding_bonus))
        figures = anyio.run(measure, agent, arguments)
    table = Table("", "", title="Conversation")
    for row in rows(figures):
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
