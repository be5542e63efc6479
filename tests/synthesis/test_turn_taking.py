"""The example that takes turns, on small random models: what the user says is answered, and interrupts the answer."""

import argparse
import importlib.util
import tarfile
import wave

import anyio
import numpy as np
import pytest
from imitation_support import FAMILY, RATE, write_checkpoint, write_wav

from duplex import EndReason

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def example(pytestconfig):
    path = pytestconfig.rootpath / "examples" / "turn_taking.py"
    spec = importlib.util.spec_from_file_location("turn_taking", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, pytestconfig):
    """Two questions, models, and where the answers go."""
    folder = tmp_path_factory.mktemp("turns")
    with tarfile.open(FAMILY / "stt-prefix.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "tts").mkdir()
    with wave.open(str(pytestconfig.rootpath / "examples" / "question.wav")) as file:
        question = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    pause = np.zeros(4 * RATE, np.int16)
    return argparse.Namespace(
        recording=str(write_wav(folder / "user.wav", np.concatenate([question, question, pause]))),
        out=str(folder / "reply.wav"),
        ears=str(folder / "stt-prefix"),
        mouth=str(write_checkpoint(folder / "tts", "tts")),
        voice="first.wav",
    )


async def test_what_the_user_says_is_answered_and_interrupts(example, arguments):
    asked = []

    async def respond(said):
        """The first answer has no end: only the user's next words can stop it."""
        asked.append(list(said))
        yield "Hello, how are you "
        while len(asked) == 1:
            await anyio.sleep(0.01)
            yield "this morning? "

    with anyio.fail_after(120):
        agent = await example.main(arguments, respond)
    assert len(agent.answers) >= 2
    reasons = [reason for _, reason in agent.answers]
    assert reasons[0] is EndReason.INTERRUPTED
    assert reasons[-1] is EndReason.FINISHED
    assert agent.answers[-1][0] == "Hello, how are you"
    assert agent.said[: len(asked[0])] == asked[0]
    with wave.open(arguments.out) as file:
        assert file.getnframes() > RATE


async def test_the_stand_in_streams_words(example):
    words = [word async for word in example.respond(["hello"])]
    assert "".join(words).startswith("You said: hello. ")
    assert len(words) > 5
