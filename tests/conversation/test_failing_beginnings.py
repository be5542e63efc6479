"""Conversations that begin with something, with a model that stalls or is closed meanwhile: they end with an error."""

import threading

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import loud, nothing_left_behind, reached  # noqa: F401

from duplex import Conversation
from duplex.engine import watchdog
from duplex.engine.watchdog import StepDeadline
from duplex.errors import ClosedError, ModelError, ModelStalledError
from duplex.scoring import score

pytestmark = pytest.mark.anyio
PATIENCE = 20


class Held:
    """A prefill that stands still at its third piece."""

    def __init__(self, model):
        self.reached, self.goes_on = threading.Event(), threading.Event()
        self._prefill, self._pieces = model.prefill, 0

    def __call__(self, slot, tokens):
        self._pieces += 1
        if self._pieces == 3:
            self.reached.set()
            assert self.goes_on.wait(PATIENCE)
        self._prefill(slot, tokens)


@pytest.fixture
def model(models):
    """A model that has made a step, and has a prefill that is held."""
    made = models(capacity=2)
    made.frame_model.prefill = Held(made.frame_model)
    yield made
    made.frame_model.prefill.goes_on.set()


async def begin(model):
    """Hold a conversation that begins with a history."""
    history = np.full((model.spec.streams, 240), 5, np.int64)
    with anyio.fail_after(PATIENCE):
        async with Conversation(model, history=history) as conversation:
            async for _ in conversation.run(loud(2)):
                pass


async def test_the_model_is_closed(model):
    held = model.frame_model.prefill

    async def close():
        await reached(held.reached)
        async with anyio.create_task_group() as closing:
            closing.start_soon(anyio.to_thread.run_sync, model.close)
            while not model.engine._closing:
                await anyio.sleep(0.001)
            held.goes_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(ClosedError):
            await begin(model)


async def test_the_model_stalls(model, monkeypatch):
    async with Conversation(model) as conversation:
        async for _ in conversation.run(loud(2)):
            pass
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(StepDeadline, "FLOOR", 0.2)
    monkeypatch.setattr(StepDeadline, "MULTIPLE", 1.0)
    with pytest.raises(ModelStalledError):
        await begin(model)
    assert model.free == model.sessions, "the place is free again"


async def test_the_model_cannot_take_it(models):
    """The failure comes with the readiness, and is not lost with that."""
    model = models()

    def prefill(*_):
        raise RuntimeError("no such tokens")

    model.frame_model.prefill = prefill
    with pytest.raises(ModelError, match="no such tokens"):
        await begin(model)


async def test_a_model_scores_again_after_it_has_lost_its_jobs(models):
    """What is scored has one job for all: with the job gone, what is scored next has to begin another."""
    model = models(capacity=2)
    tokens = np.full((model.spec.streams, 400), 5, np.int64)
    begun = threading.Event()
    scored = model.frame_model.score

    def score_once(*given):
        model.frame_model.score = scored
        begun.set()
        result = scored(*given)
        model.engine.submit(lost())
        return result

    def lost():
        raise RuntimeError("a job that nobody foresaw")
        yield

    model.frame_model.score = score_once
    with anyio.fail_after(PATIENCE):
        with pytest.raises(Exception, match="a job that nobody foresaw"):
            _ = [frame async for frame in score(model, tokens)]
        assert begun.is_set()
        assert len([frame async for frame in score(model, tokens)]) == 400
