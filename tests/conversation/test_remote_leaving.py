"""A remote conversation that is left while it connects, or comes back: its websocket is closed, whoever opened it."""

import anyio
import pytest

from duplex.conversation.remote_line import RemoteLine
from duplex.conversation.remote_runner import RemoteRunner
from duplex.errors import ClosedError
from duplex.transports import wire

pytestmark = pytest.mark.anyio
PATIENCE = 10
SESSION = wire.metadata({"type": "Session", "resume": "token", "seconds": 30.0})


class Websocket:
    """One that says what it is told to, and then nothing, or breaks."""

    def __init__(self, *says, breaks=False):
        self.says, self.breaks = list(says), breaks
        self.close_code, self.closed, self.waits = None, False, anyio.Event()

    async def receive(self):
        await anyio.lowlevel.checkpoint()
        if self.says:
            return self.says.pop(0)
        if self.breaks:
            self.close_code = 1006
            raise anyio.EndOfStream
        self.waits.set()
        return await anyio.sleep_forever()

    async def send(self, _):
        await anyio.lowlevel.checkpoint()

    async def aclose(self):
        self.closed = True


class Line(RemoteLine):
    """A line with such websockets; ``answers`` is when a server answers."""

    def __init__(self, *websockets):
        super().__init__("ws://nowhere/api/chat?format=pcm", {}, None, resends=False)
        self.websockets, self.answers = list(websockets), anyio.Event()

    async def _open(self, *_):
        await self.answers.wait()
        return self.websockets.pop(0)


def runner(line, interrupted=None):
    return RemoteRunner(
        line, None, sample_rate=24000, on_lost="resume", queued=None, interrupted=interrupted, audio_events=True
    )


@pytest.fixture
def broken():
    return Websocket(wire.handshake(), SESSION, breaks=True)


async def test_left_in_the_turn_in_which_the_server_answers():
    websocket = Websocket()
    line = Line(websocket)
    conversation = runner(line)

    async def enter():
        with pytest.raises(ClosedError):
            await conversation.enter()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await anyio.sleep(0.02)
            line.answers.set()
            await conversation.leave()
    assert websocket.closed


async def test_left_while_it_waits_for_the_next_token(broken):
    again = Websocket()
    line = Line(broken, again)
    line.answers.set()
    conversation = runner(line)
    with anyio.fail_after(PATIENCE):
        await conversation.enter()
        await again.waits.wait()
        await conversation.leave()
    assert broken.closed
    assert again.closed


async def test_a_callback_that_fails_when_it_has_come_back(broken):
    def interrupted(is_interrupted):
        if not is_interrupted:
            raise LookupError("the program's own")

    again = Websocket(SESSION)
    line = Line(broken, again)
    line.answers.set()
    conversation = runner(line, interrupted)
    with anyio.fail_after(PATIENCE):
        await conversation.enter()
        with pytest.raises(LookupError):
            while True:
                await conversation.next_event()
        await conversation.leave()
    assert again.closed
