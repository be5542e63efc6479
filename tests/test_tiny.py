"""The built-in model holds a conversation."""

from pathlib import Path

import anyio
import numpy as np
import pytest

import duplex
from duplex.checkpoints import checkpoint
from duplex.training.data.augmentation import music, noise

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 24000
MOST_BYTES = 30_000_000
GREEDY = duplex.SessionOptions(greedy=True)


@pytest.fixture(scope="module")
def tiny():
    with duplex.load("tiny", sessions=4) as model:
        yield model


async def events_of(model, source, options=GREEDY):
    if isinstance(source, Path):
        async with duplex.Conversation(model, duplex.FileTransport(source), options=options) as conversation:
            return [event async for event in conversation]
    async with duplex.Conversation(model, options=options) as conversation:
        return [event async for event in conversation.run(source)]


def text_of(events, start=0.0, end=float("inf")):
    pieces = [event for event in events if isinstance(event, duplex.AgentText) and start <= event.at < end]
    return "".join(piece.text for piece in pieces).strip()


def test_it_is_small():
    folder = checkpoint.resolve("tiny").weights.parent
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_a_question(tiny):
    events = anyio.run(events_of, tiny, EXAMPLES / "question.wav")
    asked = next(event.at for event in events if isinstance(event, duplex.UserSpeechStopped))
    assert text_of(events) == "The capital of France is Paris."
    began = [event.at for event in events if isinstance(event, duplex.AgentSpeechStarted) and event.at > asked]
    assert len(began) == 1
    assert 0 < began[0] - asked < 1.5


def test_a_conversation(tiny):
    """It waits while the user thinks, and takes up the question that comes in between."""
    events = anyio.run(events_of, tiny, EXAMPLES / "conversation.wav")
    assert text_of(events, 0, 4.6) == "Hello! How can I help you?"
    assert text_of(events, 4.6, 7.3).startswith("Nice to meet you, ")
    assert text_of(events, 7.3, 9.9) == "", "the question is not over"
    assert " plus " in text_of(events, 9.9, 12.8)
    assert text_of(events, 17.4, 21.9) == "The capital of Japan is Tokyo."
    assert text_of(events, 21.9, 25.2) == "Your name is Anna."
    assert text_of(events, 27.5) == "Goodbye! Have a nice day."


@pytest.mark.parametrize("make", [noise, music])
def test_it_stays_silent_where_nobody_speaks(tiny, make):
    pcm = make(6 * RATE, RATE, np.random.default_rng(0), -35.0).astype(np.float32)
    events = anyio.run(events_of, tiny, pcm)
    assert text_of(events) == ""
    assert not any(isinstance(event, duplex.AgentSpeechStarted) for event in events)
