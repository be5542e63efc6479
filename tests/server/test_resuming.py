"""Calls whose line breaks: the same conversation goes on, or whoever cannot go on is told why."""

import json
import time

import anyio
import pytest
from resuming_support import CutLine, counted, session, vanish

import duplex
from duplex.events import EndReason, Lag, SessionEnded, SessionStarted
from duplex.server import Settings
from duplex.transports import MemoryTransport, wire
from server_support import FRAME, get, running, tone, until

pytestmark = pytest.mark.anyio
EVENTS = "?events=full&format=pcm"


def events_of(caller):
    told = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
    return [event for event in told if event["type"] != "Session"]


def come_back(server, caller, offer, **more):
    query = "".join(f"&{name}={value}" for name, value in more.items())
    return server.call(f"{EVENTS}&resume={offer['resume']}&received={len(counted(caller))}{query}")


def refused(server, token, received=0):
    return server.call(f"{EVENTS}&resume={token}&received={received}").end()


async def ended(conversation):
    """Return the events of a conversation that fails, and what is said of it."""
    events = []
    try:
        async for event in conversation:
            events.append(event)  # noqa: PERF401 -- those before the error are wanted
    except duplex.ServerError as error:
        return events, str(error)
    raise AssertionError("it ended well")


def talking(server):
    return json.loads(get(server, "/readyz")[2])["sessions"]


def test_who_asks_for_no_events_hears_nothing_of_it(models):
    with running(models()) as server, server.call("?format=pcm") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(0.4), audio_format="pcm")
        caller.finish()
        assert wire.Kind.METADATA not in [message.kind for message in caller.rest()]
        assert caller.code == 1000


def test_a_caller_comes_back_and_misses_nothing(models):
    with running(models()) as server, server.call(EVENTS) as caller:
        first = session(caller)
        caller.say(tone(0.4), audio_format="pcm", pace=0.08)
        caller.until(wire.Kind.AUDIO)
        vanish(caller)
        until(lambda: talking(server) == 1)
        with come_back(server, caller, first) as again:
            second = session(again)
            assert (first["generation"], second["generation"]) == (1, 2)
            assert second["resume"] != first["resume"]
            again.say(tone(0.4), audio_format="pcm", pace=0.08)
            again.finish()
            again.rest()
            told = events_of(caller) + events_of(again)
            assert again.code == 1000
    assert [event["sequence"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told].count("SessionStarted") == 1
    assert [event["type"] for event in told].count("SessionEnded") == 1
    assert told[-1]["reason"] == "finished"
    frames = [m for each in (caller, again) for m in counted(each) if m.kind is wire.Kind.AUDIO]
    assert len(frames) == told[-1]["usage"]["frames"]


def test_the_conversation_stands_still_meanwhile(models):
    heard = []
    with running(models(on_step=heard.append)) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        caller.say(tone(0.4), audio_format="pcm", pace=0.08)
        vanish(caller)
        left = time.monotonic()
        until(lambda: len(heard) >= 5)
        anyio.run(anyio.sleep, 1.0)
        assert len(heard) <= 8  # a stand-in for what came while the line was thought to be there
        with come_back(server, caller, offer) as again:
            session(again)
            away = time.monotonic() - left
            again.say(tone(0.16), audio_format="pcm", pace=0.08)
            again.finish()
            again.rest()
            lags = [event for event in events_of(again) if event["type"] == "Lag" and event["side"] == "user"]
    assert 0.5 <= sum(lag["dropped"] for lag in lags) <= away + 0.5


@pytest.mark.parametrize("received", ["0", "x", "-1", "99999", ""])
def test_a_number_of_messages_that_makes_no_sense(models, received):
    with running(models()) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        caller.say(tone(0.2), audio_format="pcm")
        caller.until(wire.Kind.AUDIO)
        vanish(caller)
        with server.call(f"{EVENTS}&resume={offer['resume']}&received={received}") as again:
            if received == "0":
                session(again)
                assert counted(again) is not None
            else:
                assert again.end() == (4413, "more was missed than is kept; call again")
                until(lambda: talking(server) == 0)


def test_a_token_is_good_once(models):
    with running(models()) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        vanish(caller)
        with come_back(server, caller, offer) as again:
            session(again)
            code, told = refused(server, offer["resume"])
            assert (code, "has been used" in told) == (4409, True)
            again.finish()
            again.rest()
            assert again.code == 1000


def test_the_newer_line_is_the_callers(models):
    with running(models()) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        with come_back(server, caller, offer) as again:
            session(again)
            code, _ = caller.end()
            assert code == 4410
            again.finish()
            again.rest()
            assert again.code == 1000


def test_others_do_not_come_in_with_it(models):
    tokens = ("alice:0123456789abcdef", "bob:fedcba9876543210")
    with running(models(), Settings(tokens=tokens)) as server:
        alice, bob = ({"Authorization": f"Bearer {token.partition(':')[2]}"} for token in tokens)
        with server.call(EVENTS, additional_headers=alice) as caller:
            offer = session(caller)
            vanish(caller)
            query = f"{EVENTS}&resume={offer['resume']}&received=0"
            assert server.call(query, additional_headers=bob).end()[0] == 4404
            with pytest.raises(Exception, match="401"):
                server.call(query)
            with server.call(query, additional_headers=alice) as again:
                session(again)


@pytest.mark.parametrize("token", ["", "x", "%00", "y" * 5000])
def test_a_token_that_is_none(models, token):
    with running(models()) as server:
        assert refused(server, token)[0] == 4404


def test_the_grace_ends(models):
    with running(models(capacity=1), Settings(resume_grace=0.5, queue=0)) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        assert offer["seconds"] == 0.5
        vanish(caller)
        assert server.call(EVENTS).end()[0] == 1013  # the place is kept
        until(lambda: talking(server) == 0)
        assert refused(server, offer["resume"])[0] == 4404
        with server.call(EVENTS) as other:
            session(other)


def test_without_a_grace_nobody_comes_back(models):
    with running(models(), Settings(resume_grace=0)) as server, server.call(EVENTS) as caller:
        caller.until(wire.Kind.HANDSHAKE)
        assert json.loads(caller.until(wire.Kind.METADATA).payload)["type"] == "SessionStarted"
        vanish(caller)
        until(lambda: talking(server) == 0)


def test_who_says_goodbye_has_hung_up(models):
    with running(models()) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        caller.websocket.close()
        until(lambda: talking(server) == 0)
        assert refused(server, offer["resume"])[0] == 4404


def test_a_broken_line_is_not_idle(models):
    with running(models(), Settings(idle_timeout=0.4)) as server, server.call(EVENTS) as caller:
        offer = session(caller)
        caller.say(tone(0.08), audio_format="pcm")
        vanish(caller)
        anyio.run(anyio.sleep, 1.0)
        with come_back(server, caller, offer) as again:
            session(again)
            again.finish()
            again.rest()
            assert again.code == 1000


async def test_the_client_follows_by_itself(models):
    notes, events = [], []
    with running(models()) as server, CutLine(server.port) as line:
        async with (
            duplex.connect(line.url(), interrupted=notes.append) as conversation,
            anyio.create_task_group() as tasks,
        ):

            async def cut():
                await conversation.send(tone(0.8))
                await anyio.sleep(0.6)
                line.cut()
                await anyio.sleep(1.0)
                line.mend()
                await conversation.send(tone(0.8))
                await conversation.finish()

            tasks.start_soon(cut)
            events = [event async for event in conversation]
    assert notes == [True, False]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [type(event) for event in events].count(SessionStarted) == 1
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].reason is EndReason.FINISHED
    assert events[-1].usage.frames >= 2 * 0.8 / 0.08  # nothing of a recording is lost on a line that broke
    assert any(isinstance(event, Lag) and event.side == "user" and event.dropped >= 0.4 for event in events)


async def test_a_client_whose_server_is_gone_gives_up(models):
    with running(models(), Settings(resume_grace=0.6)) as server, CutLine(server.port) as line:
        async with duplex.connect(line.url()) as conversation:
            while not isinstance(await anext(conversation), duplex.AgentAudio):
                pass  # audio comes when the server has told how to come back
            line.cut()
            events, told = await ended(conversation)
    assert "did not come back" in told
    assert events[-1].reason is EndReason.DISCONNECTED


async def test_a_microphone_goes_on_where_it_is_now(models):
    class Microphone(MemoryTransport):
        async def receive(self):
            await anyio.sleep(FRAME / 24000)
            return tone(FRAME / 24000)

    with running(models()) as server, CutLine(server.port) as line:
        async with duplex.connect(line.url(), Microphone(tone(0.1), realtime=True)) as conversation:
            at = None
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio) and event.at > 0.6 and at is None:
                    at = event.at
                    line.cut()
                    await anyio.sleep(1.0)
                    line.mend()
                elif isinstance(event, duplex.AgentAudio) and at is not None and event.at > at + 1.5:
                    break
