"""Texts whose model stalls, is closed or is left while it is given something to say: they end with an error."""

import threading

import anyio
import anyio.to_thread
import pytest

from duplex import EndReason, SessionEnded, SessionOptions, Speaker, load
from duplex.engine import watchdog
from duplex.engine.watchdog import StepDeadline
from duplex.errors import ClosedError, ModelStalledError
from imitation_support import write_checkpoint

pytestmark = pytest.mark.anyio
GREEDY = SessionOptions(greedy=True)
PATIENCE = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_checkpoint(tmp_path_factory.mktemp("tts"), "tts"))


@pytest.fixture
def model(folder):
    with load(folder, backend="torch", device="cpu", sessions=2) as made:
        yield made


class Held:
    """Stands still where it stands for a method of a model, until it goes on."""

    def __init__(self, model, name):
        self.reached, self.goes_on = threading.Event(), threading.Event()
        self._method = getattr(model, name)
        setattr(model, name, self)

    def __call__(self, *given):
        self.reached.set()
        assert self.goes_on.wait(PATIENCE)
        return self._method(*given)


async def saved(model):
    async with Speaker(model, options=GREEDY) as speaker:
        events = speaker.say("Hello, how are you?")
        await anext(events)
        return await speaker.export()


async def speak(model, state):
    with anyio.fail_after(PATIENCE):
        async with Speaker(model, state=state, options=None if state else GREEDY) as speaker:
            async for _ in speaker.say("" if state else "Hello, how are you?"):
                pass


@pytest.mark.parametrize("held", ["say", "restore"])
async def test_the_model_stalls(model, monkeypatch, held):
    state = await saved(model)
    await speak(model, None)
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(StepDeadline, "FLOOR", 0.5)
    monkeypatch.setattr(StepDeadline, "MULTIPLE", 1.0)
    standing = Held(model.frame_model, held)
    try:
        with pytest.raises(ModelStalledError):
            await speak(model, state if held == "restore" else None)
        assert model.free == model.sessions
    finally:
        standing.goes_on.set()


@pytest.mark.parametrize("held", ["say", "restore"])
async def test_the_model_is_closed(model, held):
    state = await saved(model)
    standing = Held(model.frame_model, held)

    async def close():
        assert await anyio.to_thread.run_sync(standing.reached.wait, PATIENCE)
        async with anyio.create_task_group() as closing:
            closing.start_soon(anyio.to_thread.run_sync, model.close)
            while not model.engine._closing:  # noqa: ASYNC110 -- it happens on a thread
                await anyio.sleep(0.001)
            standing.goes_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(ClosedError):
            await speak(model, state if held == "restore" else None)


@pytest.mark.parametrize("held", ["say", "step"])
async def test_who_leaves_a_speaker_leaves_no_task_waiting(model, held):
    standing, events = Held(model.frame_model, held), []

    async def listen(speaker):
        speech = speaker.say("Hello, how are you?")
        while not events or not isinstance(events[-1], SessionEnded):
            events.append(await anext(speech))
        with pytest.raises(ClosedError, match="the speaker was left"):
            await anext(speech)

    try:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks, Speaker(model, options=GREEDY) as speaker:
                tasks.start_soon(listen, speaker)
                assert await anyio.to_thread.run_sync(standing.reached.wait, PATIENCE)
    finally:
        standing.goes_on.set()
    assert events[-1].reason is EndReason.FAILED
