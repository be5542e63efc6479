"""Ask a model what is in a file of sentences, in phrasings and voices that were kept out of its training.

python examples/another_domain/ask.py examples/another_domain/pizza.toml --model talk/model [--questions 180]
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray
from sentences import Sentences, Turn

import duplex
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.dialogues.speech import speak_words

SESSIONS = 8
BEFORE, AFTER = 0.8, 6.0
"""Seconds of silence around a question."""


@attrs.frozen(eq=False)
class Asked:
    """A question as it is spoken, float32 ``[samples]`` at 24 kHz."""

    turn: Turn
    pcm: NDArray[np.float32]


def ask_all(sentences: Sentences, count: int) -> list[Asked]:
    """Return questions of all topics in turn, by all testers in turn."""
    asked: list[Asked] = []
    for index in range(count):
        rng = np.random.default_rng((7, index))
        turn = sentences.draw(sentences.topics[index % len(sentences.topics)], "testing", rng)
        tester = sentences.testers[index // len(sentences.topics) % len(sentences.testers)].sample_speaker(rng)
        sound, _ = speak_words(tester, " ".join(turn.question.replace("|", " ").split()), rng)
        asked.append(Asked(turn, np.pad(sound, (round(BEFORE * SAMPLE_RATE), round(AFTER * SAMPLE_RATE)))))
    return asked


async def answers(model: duplex.Model, asked: list[Asked]) -> list[str]:
    """Return what the model says to each question."""
    told = [""] * len(asked)
    waiting = list(range(len(asked)))

    async def work() -> None:
        while waiting:
            index = waiting.pop()
            async with duplex.Conversation(model, options=duplex.SessionOptions(seed=index)) as conversation:
                async for event in conversation.run(asked[index].pcm):
                    if isinstance(event, duplex.AgentText):
                        told[index] += event.text

    async with anyio.create_task_group() as group:
        for _ in range(SESSIONS):
            group.start_soon(work)
    return told


def plain(text: str) -> str:
    """Return a text without capitals and punctuation."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def main() -> None:
    """Ask, and print the share of right answers by topic."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--questions", type=int, default=180)
    given = parser.parse_args()
    asked = ask_all(Sentences(given.sentences), given.questions)
    with duplex.load(given.model, sessions=SESSIONS) as model:
        told = anyio.run(answers, model, asked)
    right: dict[str, list[bool]] = defaultdict(list)
    for each, text in zip(asked, told, strict=True):
        right[each.turn.topic].append(plain(each.turn.key) in plain(text))
    right["all of them"] = [one for found in right.values() for one in found]
    for name, found in right.items():
        print(f"{name}: {sum(found)} of {len(found)} right, {100 * np.mean(found):.0f} %")


if __name__ == "__main__":
    main()
