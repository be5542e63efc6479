"""The example that takes turns, on small random models: what the user says is answered, and interrupts the answer."""

import argparse
import importlib.util
import tarfile
import wave

import anyio
import numpy as np
import pytest

from duplex import EndReason
from imitation_support import FAMILY, RATE, write_checkpoint

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def example(pytestconfig):
    path = pytestconfig.rootpath / "examples" / "turn_taking.py"
    spec = importlib.util.spec_from_file_location("turn_taking", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TurnByTurn:
    """A line on which the user asks, waits until the agent begins to answer, and asks again."""

    realtime = False

    def __init__(self, question, answering):
        pause = np.zeros(8 * RATE, np.float32)
        self._turns, self._answering = [question, pause, None, question, pause], answering

    async def start(self, sample_rate):
        assert sample_rate == RATE

    async def receive(self):
        if not self._turns:
            raise anyio.EndOfStream
        said = self._turns.pop(0)
        if said is None:
            await self._answering.wait()
            said = self._turns.pop(0)
        return said

    async def send(self, pcm):
        raise AssertionError(f"a recogniser said {len(pcm)} samples")

    async def finish(self):
        pass

    async def aclose(self):
        pass


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Models, and where the answers go."""
    folder = tmp_path_factory.mktemp("turns")
    with tarfile.open(FAMILY / "stt-prefix.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "tts").mkdir()
    return argparse.Namespace(
        out=str(folder / "reply.wav"),
        ears=str(folder / "stt-prefix"),
        mouth=str(write_checkpoint(folder / "tts", "tts")),
        voice="first.wav",
    )


@pytest.mark.slow
async def test_what_the_user_says_is_answered_and_interrupts(example, arguments, pytestconfig):
    with wave.open(str(pytestconfig.rootpath / "examples" / "question.wav")) as file:
        question = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    answering = anyio.Event()

    async def respond(said):
        """The first answer has no end: only the user's next words can stop it."""
        yield "Hello, how are you "
        while len(said) == 1:
            answering.set()
            await anyio.sleep(0.01)
            yield "this morning? "

    with anyio.fail_after(300):
        agent = await example.main(arguments, respond, TurnByTurn(question, answering))
    assert len(agent.answers) == len(agent.said) >= 2
    reasons = [reason for _, reason in agent.answers]
    assert reasons[0] is EndReason.INTERRUPTED
    assert reasons[-1] is EndReason.FINISHED
    assert agent.answers[-1][0] == "Hello, how are you"
    with wave.open(arguments.out) as file:
        assert file.getnframes() > RATE


async def test_the_stand_in_streams_words(example):
    words = [word async for word in example.respond(["hello"])]
    assert "".join(words).startswith("You said: hello. ")
    assert len(words) > 5
