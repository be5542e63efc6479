"""Whole conversations for `conversation_quality.py`, of the kind of `examples/conversation.wav`.

A user in a voice that training never had says hello and their name, asks for a sum, pausing in it, and for a joke,
interrupts it with another question, asks for their name, thanks, and says goodbye; phrasings are those for testing. The
answer to each is what the agent says until the user's next turn has ended.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from codec_words import normalized
from conversation_calls import FRAME, RATE, Agent, Call, Speaking, make_calls
from conversation_measures import LONGEST_BACKCHANNEL, YIELDING, interval, is_right, share, stretches
from conversation_questions import Question, spoken
from duplex.training.data.voices import HELD_OUT_VOICES, Voice
from duplex.training.dialogues.facts import JOKES
from duplex.training.dialogues.topics import Memory, draw_exchange

__all__ = ["conversations"]

Float32 = NDArray[np.float32]
LEAD, LISTENS, INTERRUPTS = 0.8, 3.0, 2.0
"""Seconds of silence before the first turn, after each, and after the one whose answer is interrupted."""
JOKE_WORDS = 3
"""Of a joke that is told until it is interrupted."""


@attrs.frozen(eq=False)
class _Turn:
    """A turn of the user, and when it begins and ends, in seconds."""

    question: Question
    start: float
    end: float


async def conversations(agent: Agent, count: int, seed: int, sessions: int) -> dict[str, Any]:
    """Hold ``count`` conversations; return what was right, of all turns and in each conversation, and every fault."""
    plans = [_plan(HELD_OUT_VOICES[index % len(HELD_OUT_VOICES)], seed, index) for index in range(count)]
    calls = await make_calls(agent, [Speaking(_sound(turns)) for turns in plans], sessions)
    held: list[dict[str, Any]] = []
    every: list[bool] = []
    for turns, call in zip(plans, calls, strict=True):
        right, faults = _judged(turns, call)
        every += right
        held.append({"voice": turns[0].question.voice, "turns": len(turns), "right": sum(right), "faults": faults})
    whole = [not each["faults"] for each in held]
    return {
        "seed": seed,
        "turns": len(every),
        "right": share(every),
        "interval": interval(every),
        "without a fault": share(whole),
        "each": held,
    }


def _plan(voice: Voice, seed: int, index: int) -> list[_Turn]:
    rng, memory = np.random.default_rng((seed, index)), Memory()
    choices = (["greet"], ["tell name"], ["add", "subtract"], ["joke"], ["capital", "opposite", "colour"])
    topics = [*(str(rng.choice(each)) for each in choices), "ask name", "thanks", "goodbye"]
    turns: list[_Turn] = []
    at = LEAD
    for topic in topics:
        question = spoken(draw_exchange(topic, "testing", rng, memory), voice, rng, pauses=topic in choices[2])
        end = at + question.end - question.start
        turns.append(_Turn(question, at, end))
        at = end + (INTERRUPTS if topic == "joke" else LISTENS)
    return turns


def _sound(turns: Sequence[_Turn]) -> Float32:
    pcm = np.zeros(round((turns[-1].end + LISTENS) * RATE), np.float32)
    for turn in turns:
        asked = turn.question.pcm[round(turn.question.start * RATE) : round(turn.question.end * RATE)]
        start = round(turn.start * RATE)
        pcm[start : start + len(asked)] = asked
    return pcm


def _judged(turns: Sequence[_Turn], call: Call) -> tuple[list[bool], list[str]]:
    """Return which turns were answered rightly, and all that went wrong."""
    right: list[bool] = []
    faults: list[str] = []
    ends = [*(turn.end for turn in turns[1:]), float("inf")]
    for turn, until in zip(turns, ends, strict=True):
        exchange, told = turn.question.exchange, call.text(turn.end, until)
        cut = exchange.topic == "joke"
        right.append(_begins_a_joke(told) if cut else is_right(told, exchange))
        if not right[-1]:
            faults.append(f'"{exchange.question.replace("|", "...")}" was answered with "{told}"')
    joke = next(index for index, turn in enumerate(turns) if turn.question.exchange.topic == "joke")
    spoken_over = stretches(call.speaks)
    for index, turn in enumerate(turns):
        start = turn.start + (YIELDING if index == joke + 1 else 0.0)
        over = sum(
            max(0.0, min(end, turn.end) - max(begin, start))
            for begin, end in spoken_over
            if end - begin >= LONGEST_BACKCHANNEL
        )
        if over > FRAME / RATE:  # the frame in which a turn begins is nobody's fault
            faults.append(f'for {over:.1f} s of "{turn.question.exchange.question}" the agent went on speaking')
    return right, faults


def _begins_a_joke(told: str) -> bool:
    words = normalized(told).split()
    return len(words) >= JOKE_WORDS and any(normalized(joke).split()[: len(words)] == words for joke in JOKES)
