"""Whom the agent hears in a room with a loudspeaker: the user, who cuts in, and not itself."""

import pytest
from room_support import converse
from sound_server_support import SoundServer, missing, preferred

import duplex

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]
TIMES = 6
SECONDS = 4.0
"""Of the agent's speech that are to be judged."""


@pytest.fixture
def server(tmp_path, monkeypatch, request):
    server = SoundServer(tmp_path, echo=True, echo_db=request.param)
    for name, value in server.environment.items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    server.start()
    with preferred():
        yield server
    server.kill()


async def hold(server, recording):
    """Hold conversations until the machine has left enough of the speech undisturbed, and a user who cuts in."""
    held = []
    with await duplex.load_async("tiny") as model:
        while len(held) < TIMES and not (sum(each.judged_seconds() for each in held) >= SECONDS and barge_ins(held)):
            held.append(await converse(server, model, recording, "webrtc"))
    return held


def barge_ins(held):
    return [heard for each in held for heard in each.barge_ins()]


@pytest.mark.parametrize("server", [-12.0, 0.0], indirect=True)
async def test_the_agent_does_not_hear_itself_and_lets_the_user_cut_in(server, pytestconfig):
    held = await hold(server, pytestconfig.rootpath / "examples" / "conversation.wav")
    assert [each.judged_false_starts() for each in held] == [[] for _ in held], held
    assert barge_ins(held), held  # "Tell me a joke." ... "What is the capital of Japan?"
    assert all(barge_ins(held)), held


@pytest.mark.parametrize("server", [-12.0, 0.0], indirect=True)
async def test_without_echo_cancellation_it_hears_itself(server, pytestconfig):
    """It does on any machine, however busy."""
    with await duplex.load_async("tiny") as model:
        heard = await converse(server, model, pytestconfig.rootpath / "examples" / "conversation.wav", "off")
    assert len(heard.false_starts()) >= 2, heard
