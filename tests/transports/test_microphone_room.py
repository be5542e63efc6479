"""Whom the agent hears in a room with a loudspeaker: the user, who cuts in, and not itself."""

import pytest
from room_support import converse
from sound_server_support import SoundServer, missing, preferred

import duplex

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]
TIMES = 3


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


async def hold(server, pytestconfig, how):
    """Hold the conversation until the machine has let it be undisturbed once."""
    counts = []
    with await duplex.load_async("tiny") as model:
        for _ in range(TIMES):
            heard = await converse(server, model, pytestconfig.rootpath / "examples" / "conversation.wav", how)
            if how == "off" or not heard.stutters:  # without the canceller the agent hears itself in any case
                return heard
            counts.append(heard.stutters)
    return pytest.skip(f"the machine is too busy for a conversation: stutters in each of {TIMES}: {counts}")


@pytest.mark.parametrize("server", [-12.0, 0.0], indirect=True)
async def test_the_agent_does_not_hear_itself_and_lets_the_user_cut_in(server, pytestconfig):
    heard = await hold(server, pytestconfig, "webrtc")
    assert heard.false_starts() == [], heard
    assert heard.barge_ins(), heard  # "Tell me a joke." ... "What is the capital of Japan?"
    assert all(heard.barge_ins()), heard


@pytest.mark.parametrize("server", [-12.0, 0.0], indirect=True)
async def test_without_echo_cancellation_it_hears_itself(server, pytestconfig):
    heard = await hold(server, pytestconfig, "off")
    assert len(heard.false_starts()) >= 2, heard
