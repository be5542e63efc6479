"""Measures of `conversation_quality.py`: answers, when they come, and when the agent is silent."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_speech import Listener
from codec_words import count_errors, normalized
from conversation_calls import FRAME, RATE, Call, Interrupting
from conversation_questions import Question
from duplex.training.dialogues.facts import NAMES
from duplex.training.dialogues.topics import TOPICS, Exchange, Memory, draw_exchange

__all__ = [
    "LONGEST_BACKCHANNEL",
    "YIELDING",
    "answers",
    "floor",
    "interruptions",
    "interval",
    "is_right",
    "share",
    "silent_after",
    "silent_throughout",
    "stretches",
]

FRAME_SECONDS = FRAME / RATE
LONGEST_BACKCHANNEL = 0.6
YIELDING = 0.6
"""Seconds within which an interrupted agent shall be silent."""
DRAWS = 200
"""Of each topic, for each name: so many that nothing is left out."""
PAUSE_FRAMES = 5
"""Up to so many frames of silence are a pause within what is said, as in the events."""


def is_right(text: str, exchange: Exchange) -> bool:
    """Tell whether an answer has in it what was asked for."""
    told = normalized(text)
    keys = [normalized(key) for key in exchange.keys]
    return told in keys if exchange.exact else any(f" {key} " in f" {told} " for key in keys)


def answers(questions: Sequence[Question], calls: Sequence[Call], listener: Listener) -> dict[str, Any]:
    """Return how many answers are right, told and heard, and how what is told and what is heard differ, in %."""
    told = [call.text(question.start) for question, call in zip(questions, calls, strict=True)]
    heard = listener.texts([call.agent[round(q.start * RATE) :] for q, call in zip(questions, calls, strict=True)])
    right = [is_right(text, question.exchange) for text, question in zip(told, questions, strict=True)]
    pairs = [(said, text) for said, text in zip(told, heard, strict=True) if said]
    kinds: dict[str, Callable[[Question], str]] = {"voice": lambda q: q.voice, "topic": lambda q: q.exchange.topic}
    return {
        "questions": len(questions),
        "right": share(right),
        "right_heard": share([is_right(text, q.exchange) for text, q in zip(heard, questions, strict=True)]),
        "word_errors": count_errors(*zip(*pairs, strict=True)).rate if pairs else 100.0,
        "by": {
            kind: {
                name: share([ok for ok, q in zip(right, questions, strict=True) if value(q) == name])
                for name in dict.fromkeys(value(q) for q in questions)
            }
            for kind, value in kinds.items()
        },
        "wrong": [
            {"asked": q.exchange.question, "voice": q.voice, "wanted": q.exchange.keys, "told": text}
            for q, text, ok in zip(questions, told, right, strict=True)
            if not ok
        ],
    }


def floor(questions: Sequence[Question], calls: Sequence[Call]) -> dict[str, float]:
    """Return how much of the users' speaking time the agent speaks in, in %, and how soon it answers, in seconds.

    An answer is the stretch of speech that goes on, or begins, after the question; one that began before its end has a
    negative delay.
    """
    over = spoken = 0.0
    delays: list[float] = []
    for question, call in zip(questions, calls, strict=True):
        speaks = stretches(call.speaks)
        spoken += question.end - question.start
        over += sum(
            max(0.0, min(end, question.end) - max(start, question.start))
            for start, end in speaks
            if end - start >= LONGEST_BACKCHANNEL
        )
        delays += [start - question.end for start, end in speaks if end > question.end][:1]
    found = delays or [float("inf")]
    return {
        "overlap": 100 * over / spoken,
        "answered": 100 * len(delays) / len(questions),
        "median": float(np.median(found)),
        "p95": float(np.quantile(found, 0.95, method="higher")),
    }


def interruptions(
    callers: Sequence[Interrupting], calls: Sequence[Call], seconds: Sequence[Question]
) -> dict[str, float]:
    """Return how many interruptions there were, how soon the agent was silent, and how it answered what interrupted it.

    It is silent from its last speech before the second question ends.
    """
    waits: list[float] = []
    right: list[bool] = []
    for caller, call, question in zip(callers, calls, seconds, strict=True):
        if caller.interrupted is not None:
            start = caller.interrupted * FRAME_SECONDS
            end = start + question.end - question.start
            during = call.speaks[caller.interrupted : round(end / FRAME_SECONDS)]
            waits.append((int(np.flatnonzero(during)[-1]) + 1) * FRAME_SECONDS if during.any() else 0.0)
            right.append(is_right(call.text(end), question.exchange))
    return {
        "staged": len(waits),
        "yielded": share([wait <= YIELDING for wait in waits]),
        "median": float(np.median(waits or [float("inf")])),
        "right": share(right),
    }


def silent_throughout(calls: Sequence[Call]) -> float:
    """Return in how many calls the agent says nothing at all, in %."""
    return share([not call.text() and not call.speaks.any() for call in calls])


def silent_after(questions: Sequence[Question], calls: Sequence[Call]) -> dict[str, float]:
    """Return in how many calls the agent says one whole answer and no more, in %, and in how many it answers at all.

    Words tell more than sound does: within an answer of two sentences there is a pause, after which it must not be
    taken for something new.
    """
    every = _every_answer()
    told = [normalized(call.text(question.end)) for question, call in zip(questions, calls, strict=True)]
    return {"answered": len([text for text in told if text]), "silent": share([text in every for text in told if text])}


def _every_answer() -> frozenset[str]:
    """Return all that the agent may say in answer to something."""
    rng = np.random.default_rng(0)
    return frozenset(
        normalized(draw_exchange(topic, "testing", rng, Memory(name=name)).answer)
        for topic in TOPICS
        for name in (None, *NAMES)
        for _ in range(DRAWS)
    )


def interval(found: Sequence[bool]) -> tuple[float, float]:
    """Return what may be true of all of that kind, from and to, in %: Wilson's interval of 95 %."""
    count, z = len(found), 1.96
    if not count:
        return 0.0, 100.0
    mean = float(np.mean(found))
    middle = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(mean * (1 - mean) / count + z**2 / (4 * count**2))
    return 100 * (middle - float(half)), 100 * (middle + float(half))


def share(found: Sequence[bool]) -> float:
    """Return how many are true, in %; 0 of none."""
    return 100 * float(np.mean(found)) if found else 0.0


def stretches(speaks: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return when the agent speaks, from second to second, pauses within what is said included."""
    found: list[tuple[int, int]] = []
    for frame in np.flatnonzero(speaks):
        start, end = found[-1] if found else (-PAUSE_FRAMES, -PAUSE_FRAMES - 1)
        if found and frame - end <= PAUSE_FRAMES:
            found[-1] = (start, int(frame) + 1)
        else:
            found.append((int(frame), int(frame) + 1))
    return [(start * FRAME_SECONDS, end * FRAME_SECONDS) for start, end in found]
