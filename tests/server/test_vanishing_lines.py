"""Lines on which all that is sent vanishes, without an end: either side notices, and leaves slow lines alone."""

import json
import time

import anyio
import pytest
from resuming_support import CutLine, session

import duplex
from duplex.conversation import remote_line
from duplex.events import SessionStarted
from duplex.server import Settings, asgi, watched
from duplex.server.silence import Silence
from duplex.transports import MemoryTransport
from server_support import FRAME, Server, get, running, tone, until

EVENTS = "?events=full&format=pcm"
LAST = Silence.LOST_AFTER


def ticks(*arrivals, unread=False):
    silence = Silence(0.0)
    return [silence.tick(arrived, unread=unread) for arrived in arrivals]


def test_one_who_says_nothing_is_asked_and_then_gone():
    assert ticks(*[0.0] * LAST) == [None, "ask", None, None, "lost"]


def test_whatever_comes_is_a_sign_of_life():
    assert ticks(0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0) == [None, "ask", None, None, "ask", None, None]


def test_what_is_not_read_may_have_come():
    assert ticks(*[0.0] * 2 * LAST, unread=True) == [None] * 2 * LAST


def talking(server):
    return json.loads(get(server, "/readyz")[2])["sessions"]


@pytest.fixture
def quick(monkeypatch):
    """Seconds are tenths here."""
    monkeypatch.setattr(watched, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(remote_line, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(remote_line, "RETURN_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
def test_a_server_notices(models):
    """By its usual pings it would after 20 s at least."""
    with (
        running(models(), Settings(idle_timeout=0, resume_grace=0.3)) as server,
        CutLine(server.port) as line,
        Server(line.port, None).call(EVENTS) as caller,
    ):
        session(caller)
        assert talking(server) == 1
        line.swallow()
        until(lambda: talking(server) == 0)


@pytest.mark.usefixtures("quick")
def test_a_caller_who_says_nothing_and_answers_pings_is_there(models):
    """As a browser does that shows another tab."""
    with running(models(), Settings(idle_timeout=0)) as server, server.call(EVENTS) as caller:
        session(caller)
        until_then = time.monotonic() + 4 * LAST * watched.TICK_SECONDS
        while time.monotonic() < until_then:
            caller.next()
        caller.say(tone(0.08), audio_format="pcm")
        caller.finish()
        caller.rest()
        assert caller.code == 1000


@pytest.mark.usefixtures("quick")
def test_one_who_comes_back_is_watched_as_well(models):
    with (
        running(models(), Settings(idle_timeout=0, resume_grace=1.0)) as server,
        CutLine(server.port) as line,
        Server(line.port, None).call(EVENTS) as caller,
    ):
        offer = session(caller)
        with Server(line.port, None).call(f"{EVENTS}&resume={offer['resume']}&received=0") as again:
            session(again)
            line.swallow()
            until(lambda: talking(server) == 0)


class Microphone(MemoryTransport):
    async def receive(self):
        await anyio.sleep(FRAME / 24000)
        return tone(FRAME / 24000)


@pytest.mark.anyio
@pytest.mark.usefixtures("quick")
async def test_a_client_notices_and_the_conversation_goes_on(models):
    notes, events = [], []
    with running(models()) as server, CutLine(server.port) as line:

        def note(broken):
            notes.append(broken)
            if broken:
                line.mend()

        microphone = Microphone(tone(0.1), realtime=True)
        async with duplex.connect(line.url(), microphone, interrupted=note) as conversation:
            with anyio.fail_after(20):
                async for event in conversation:
                    events.append(event)
                    heard = sum(isinstance(event, duplex.AgentAudio) for event in events)
                    if heard == 10 and not notes:
                        line.swallow()
                    elif heard > 30:
                        break
    assert notes[:2] == [True, False]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [type(event) for event in events].count(SessionStarted) == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("quick")
async def test_a_server_that_is_held_up_while_somebody_comes_back(models, monkeypatch):
    """The caller has given up that attempt; it must not have used up the token."""
    resume, notes, held = asgi.resume, [], []

    async def held_up(*given):
        if not held:
            held.append(True)
            time.sleep(1.0)  # noqa: ASYNC251 -- the whole process
        await resume(*given)

    monkeypatch.setattr(asgi, "resume", held_up)
    with running(models()) as server, CutLine(server.port) as line:
        microphone = Microphone(tone(0.1), realtime=True)
        async with duplex.connect(line.url(), microphone, interrupted=notes.append) as conversation:
            with anyio.fail_after(20):
                while not isinstance(await anext(conversation), duplex.AgentAudio):
                    pass
                line.cut()
                line.mend()
                while notes[:2] != [True, False]:
                    await anext(conversation)
    assert held
