"""Questions of `conversation_quality.py`, in voices and phrasings that training never has."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from conversation_calls import RATE
from duplex.training.data.augmentation import music, noise
from duplex.training.data.voices import HELD_OUT_VOICES, Voice
from duplex.training.dialogues.phrasings import Split
from duplex.training.dialogues.speech import speak_words
from duplex.training.dialogues.topics import BUILT_IN, TOPICS, Exchange, Memory, draw_exchange

__all__ = ["TALK", "Question", "clips", "each_question", "long_answers", "questions", "spoken", "walk"]

Float32 = NDArray[np.float32]
LEAD, ANSWER, LEISURE = 0.8, 5.0, 7.0
"""Seconds of silence before a question, after it, and after those of a long conversation."""
THINKING = 0.6
CLIP_SECONDS = 10
QUIZ = tuple(topic for topic in BUILT_IN if topic != "ask name")
"""The topics that have been asked for since the first model, in this order: figures of all models compare."""
TALK = tuple(topic for topic in TOPICS if topic not in BUILT_IN)
"""Those that came later, and that the built-in model has not learnt."""
LONG = ("count", "joke", "ability", "capital", "identity")


@attrs.frozen(kw_only=True, eq=False)
class Question:
    """A question as it is asked: sound, with silence around it, and when its first word begins and its last ends."""

    exchange: Exchange
    voice: str
    pcm: Float32
    start: float
    end: float


def questions(count: int, seed: int = 0, **choices: Any) -> list[Question]:
    """Return questions of the topics in turn, by the voices in turn; in a third, users pause to think if they can."""
    return list(each_question(count, seed, **choices))


def each_question(
    count: int,
    seed: int = 0,
    *,
    topics: Sequence[str] = QUIZ,
    voices: Sequence[Voice] = HELD_OUT_VOICES,
    split: Split = "testing",
) -> Iterator[Question]:
    """Yield the same, each spoken when it is asked for."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield spoken(
            draw_exchange(topics[index % len(topics)], split, rng, Memory()),
            voices[index % len(voices)],
            rng,
            pauses=index // len(voices) % 3 == 0,
        )


def long_answers(count: int, seed: int = 1) -> list[Question]:
    """Return questions whose answers leave time to interrupt."""
    rng = np.random.default_rng(seed)
    return [
        spoken(
            draw_exchange(LONG[index % len(LONG)], "testing", rng, Memory()),
            HELD_OUT_VOICES[index % len(HELD_OUT_VOICES)],
            rng,
        )
        for index in range(count)
    ]


def walk(count: int, voice: Voice, seed: int = 2) -> list[Question]:
    """Return one conversation's questions, by one voice, which tells its name and asks for it."""
    rng, memory = np.random.default_rng(seed), Memory()
    topics = BUILT_IN
    return [
        spoken(draw_exchange(topics[index % len(topics)], "testing", rng, memory), voice, rng, silence=LEISURE)
        for index in range(count)
    ]


def clips(count: int, seed: int = 3) -> list[Float32]:
    """Return ten-second clips of noise, music and tones."""
    rng = np.random.default_rng(seed)
    make = (noise, music)
    return [
        make[index % 2](CLIP_SECONDS * RATE, RATE, rng, rng.uniform(-50, -20)).astype(np.float32)
        for index in range(count)
    ]


def spoken(
    exchange: Exchange, voice: Voice, rng: np.random.Generator, *, pauses: bool = False, silence: float = ANSWER
) -> Question:
    """Return a question as a voice asks it, with pauses to think where it may have them, and silence after it."""
    parts = exchange.question.split("|") if pauses else [exchange.question.replace("|", "")]
    own = np.random.default_rng(zlib.crc32(f"{voice.name} {exchange.question} {rng.integers(2**31)}".encode()))
    speaker = voice.sample_speaker(own)
    sounds = [speak_words(speaker, " ".join(part.split()), own)[0] for part in parts]
    between = np.zeros(round(THINKING * RATE), np.float32)
    speech = np.concatenate([piece for sound in sounds for piece in (sound, between)][:-1])
    pcm = np.concatenate(
        [np.zeros(round(LEAD * RATE), np.float32), speech, np.zeros(round(silence * RATE), np.float32)]
    )
    return Question(exchange=exchange, voice=voice.name, pcm=pcm, start=LEAD, end=LEAD + len(speech) / RATE)
