"""Callers of a recognition model over ``/api/chat``: the last words as soon as they stop, if they want that."""

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import duplex
from duplex.engine.seat import Seat
from duplex.errors import UsageError
from duplex.transcription.words import placement_of
from recognition_support import FRAME, recognizer, recognizer_with_heads
from server_support import running

__all__ = ["recognizer", "recognizer_with_heads"]
pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def model(recognizer_with_heads):
    with duplex.load(str(recognizer_with_heads.folder), backend="torch", device="cpu", sessions=2) as loaded:
        yield loaded


@pytest.fixture
def inserted(monkeypatch):
    """Keeps how many frames of silence seats are asked to insert."""
    asked, insert = [], Seat.insert_silence

    def insert_silence(seat, frames):
        asked.append(frames)
        insert(seat, frames)

    monkeypatch.setattr(Seat, "insert_silence", insert_silence)
    return asked


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_silence_that_brings_the_last_words(model, inserted, wanted):
    random = np.random.default_rng(4)
    loudness = np.repeat(random.uniform(0.0, 0.5, 10), 3 * FRAME)
    pcm = (loudness * random.uniform(-1, 1, len(loudness))).astype(np.float32)
    with running(model) as server:
        for _ in range(5):  # again if real time was lost
            async with duplex.connect(server.url("/?format=pcm"), flush_on_pause=wanted) as conversation:
                events = [event async for event in conversation.run(pcm)]
            if any(isinstance(event, duplex.UserSpeechStopped) for event in events):
                break
        else:
            pytest.fail("no pause was heard")
    assert set(inserted) == ({placement_of(model).flush} if wanted else set())
    assert any(isinstance(event, duplex.UserText) for event in events)


async def test_a_model_of_another_kind_refuses(models):
    with running(models()) as server:
        with pytest.raises(UsageError, match="recognises no speech"):
            async with duplex.connect(server.url(), flush_on_pause=True):
                pass
        with pytest.raises(InvalidStatus):
            server.call("?flush_on_pause=perhaps")
