"""Perform the sentences of a file as dialogues to train on: stereo, user left, agent right, with the agent's words.

python examples/another_domain/make_dialogues.py examples/another_domain/pizza.toml --out pizza [--minutes 60]

What the user's microphone hears besides (rooms, noise, music, the agent's echo) is what the built-in model is trained
with. Now and then a question interrupts an answer, so that the agent goes on giving way.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from sentences import Sentences, Turn

from duplex.audio.wav import WavWriter
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice
from duplex.training.dialogues import Word
from duplex.training.dialogues.microphone import microphone_signal
from duplex.training.dialogues.speech import speak_words
from duplex.training.dialogues.timeline import DialogueTimeline

SECONDS = (30.0, 60.0)
GAP, REACTION, THINKING, STOPPING = (0.3, 2.0), (0.24, 0.48), (0.35, 1.3), (0.26, 0.38)
"""Seconds between turns, to an answer, in a pause of the user's, and until an interrupted agent is silent."""
FRAME = 0.08
SHARE_OF_PAUSES, SHARE_OF_INTERRUPTIONS = 0.4, 0.12


class Performance:
    """A dialogue while it is made."""

    def __init__(self, sentences: Sentences, rng: np.random.Generator) -> None:
        self._sentences, self._rng = sentences, rng
        user, self._bystander = (sentences.users[int(each)] for each in rng.integers(len(sentences.users), size=2))
        self.timeline = DialogueTimeline(user.sample_speaker(rng), rng)

    def turn(self) -> None:
        """Add a question and its answer, which the next question may interrupt."""
        rng, timeline = self._rng, self.timeline
        start, end = self._exchange(timeline.now + rng.uniform(*GAP))
        if rng.random() < SHARE_OF_INTERRUPTIONS and end - start > 1:
            at = rng.uniform(start + 0.3, end - 0.3)
            timeline.interrupt_agent(at + rng.uniform(*STOPPING))
            _, end = self._exchange(at)
        timeline.now = end

    def write(self, path: Path) -> None:
        """Write the recording, and the agent's words beside it."""
        timeline = self.timeline
        whole = max(timeline.now, timeline.user.end, timeline.agent.end) + 1.0
        agent = timeline.agent.sound(whole)
        speaker = self._bystander.sample_speaker(self._rng)
        user = microphone_signal(timeline.user.sound(whole), agent, self._pauses(whole), speaker, self._rng)
        with WavWriter(path, sample_rate=SAMPLE_RATE, channels=2) as file:
            file.write(np.stack([user, agent], axis=1))
        chunks = [{"text": word.text, "timestamp": [word.start, word.end]} for word in timeline.agent.words]
        path.with_suffix(".json").write_text(json.dumps({"chunks": chunks}), encoding="utf-8")

    def _exchange(self, at: float) -> tuple[float, float]:
        """Add a question that begins at ``at``, and its answer; return when that begins and ends."""
        turn = self._drawn()
        return self._answer(turn, self._ask(turn, at))

    def _drawn(self) -> Turn:
        topics = self._sentences.topics
        weights = np.array([3.0 if topic == topics[0] else 1.0 for topic in topics])  # the first has most answers
        topic = topics[int(self._rng.choice(len(topics), p=weights / weights.sum()))]
        return self._sentences.draw(topic, "training", self._rng)

    def _ask(self, turn: Turn, at: float) -> float:
        parts = [part.strip() for part in turn.question.split("|")]
        if self._rng.random() > SHARE_OF_PAUSES:
            parts = [" ".join(parts)]
        for part in parts[:-1]:
            at = self.timeline.user_says(part, at) + self._rng.uniform(*THINKING)
        return self.timeline.user_says(parts[-1], at)

    def _answer(self, turn: Turn, at: float) -> tuple[float, float]:
        start = np.ceil((at + self._rng.uniform(*REACTION)) / FRAME) * FRAME  # the agent acts frame by frame
        pcm, words = spoken(self._sentences.agent, turn.answer)
        self.timeline.agent.add(start, pcm, words)
        return start, start + len(pcm) / SAMPLE_RATE

    def _pauses(self, whole: float) -> list[tuple[float, float]]:
        """Return when the user is silent for a second or more."""
        words = sorted(self.timeline.user.words, key=lambda word: word.start)
        ends, starts = [0.0, *(word.end for word in words)], [*(word.start for word in words), whole]
        return [(end, start) for end, start in zip(ends, starts, strict=True) if start - end >= 1]


@cache
def spoken(voice: Voice, text: str) -> tuple[NDArray[np.float32], list[Word]]:
    """Return what the agent says, the same each time: so that its codes follow from its words."""
    steady = attrs.evolve(voice, speed=(1.0, 1.0))
    return speak_words(steady, text, np.random.default_rng(0))


def main() -> None:
    """Write dialogues until there are as many minutes as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sentences, made, count = Sentences(given.sentences), 0.0, 0
    while made < 60 * given.minutes:
        rng = np.random.default_rng((given.seed, count))
        performance, length = Performance(sentences, rng), rng.uniform(*SECONDS)
        while performance.timeline.now < length:
            performance.turn()
        performance.write(given.out / f"dialogue-{count:05}.wav")
        made, count = made + performance.timeline.now, count + 1
    print(f"{given.out}: {count} dialogues, {made / 60:.0f} minutes")


if __name__ == "__main__":
    main()
