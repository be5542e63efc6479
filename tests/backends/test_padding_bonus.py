"""What a session adds to the logit of padding: it is that session's alone, and goes along with its state."""

import importlib
import wave
from pathlib import Path

import anyio
import numpy as np
import pytest

import duplex
from duplex import AgentAudio, AgentText, Conversation, SessionOptions

pytestmark = pytest.mark.anyio
QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
ANSWER = "The capital of France is Paris."
NEVER = 100.0
"""A bonus with which nothing is ever said."""


@pytest.fixture
def anyio_backend():
    """What is added is a backend's arithmetic, and no loop's: one does."""
    return "asyncio"


@pytest.fixture(scope="module", params=["torch", "mlx"])
def model(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    with duplex.load("tiny", backend=request.param, device="cpu", sessions=4) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def question():
    with wave.open(str(QUESTION)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def said(events):
    return "".join(event.text for event in events if isinstance(event, AgentText)).strip()


def begins(events):
    return next(event.at for event in events if isinstance(event, AgentText))


async def test_it_is_one_session_s_alone(model, question):
    bonuses, found = (None, 0.0, 1.5, NEVER), {}

    async def ask(bonus):
        async with Conversation(model, options=SessionOptions(padding_bonus=bonus)) as conversation:
            found[bonus] = [event async for event in conversation.run(question)]

    async with anyio.create_task_group() as tasks:
        for bonus in bonuses:
            tasks.start_soon(ask, bonus)
    assert [said(found[bonus]) for bonus in bonuses] == [ANSWER, ANSWER, ANSWER, ""]
    assert begins(found[None]) == begins(found[0.0]) < begins(found[1.5])


async def test_it_goes_along_with_the_state(model, question):
    half = 20 * model.spec.frame_size
    async with Conversation(model, options=SessionOptions(padding_bonus=NEVER)) as conversation:
        await conversation.send(question[:half])
        async for event in conversation:
            if isinstance(event, AgentAudio) and event.at >= 19 * model.spec.frame_duration - 0.01:
                break
        state = await conversation.export()
    async with Conversation(model, state=state) as conversation:
        events = [event async for event in conversation.run(question[half:])]
    assert said(events) == ""
    assert sum(isinstance(event, AgentAudio) for event in events) > 10


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_it_is_of_the_steps_that_are_recorded_already(backend):
    if backend == "mlx":
        pytest.importorskip("mlx.core")
    sampling = importlib.import_module(f"duplex.backends.{backend}.sampling").Sampling
    with_one, without = SessionOptions(padding_bonus=1.0), SessionOptions()
    assert sampling.of([with_one, without]) == sampling.of([without])


def test_what_is_out_of_range_is_refused():
    with pytest.raises(duplex.UsageError, match="padding_bonus"):
        SessionOptions(padding_bonus=1000)
