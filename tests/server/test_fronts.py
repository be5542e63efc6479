"""A server whose front is in processes of its own: calls are as with one process, and it bears the end of a process."""

import contextlib
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import psutil
import pytest
from resuming_support import counted, session, vanish
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from duplex.errors import ServerError, UsageError
from duplex.server import Listening, Settings
from duplex.server.fronts import model_process
from duplex.server.listening import usual_fronts
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import FRAME, PATIENCE, RATE, Process, ask, get, running, tone, until

TOKEN = "alice:a-token-of-some-length"  # noqa: S105 -- a test's
BEARER = {"Authorization": f"Bearer {TOKEN.partition(':')[2]}"}
EVENTS = "?events=full&format=pcm&seed=5"


@pytest.fixture(scope="module")
def server():
    """A server with two fronts, for the tests of this file that leave it as it was."""
    with fake_model(capacity=60) as model, running(model, Settings(queue=4), fronts=2) as started:
        yield started


def fronts_of(pid, but=()):
    return [each for each in psutil.Process(pid).children() if each not in but and is_front(each)]


def is_front(child):
    with contextlib.suppress(psutil.Error):  # one that has just ended
        return "duplex.server.fronts" in child.cmdline()
    return False


def connections(front):
    return sum(each.status == "ESTABLISHED" for each in front.net_connections("tcp"))


def metric(server, line):
    text = get(server, "/metrics")[2]
    return sum(float(value) for value in re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE))


def told(caller):
    events = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
    return [event for event in events if event["type"] != "Session"]


def dialogue(server):
    """Hold a conversation of a second, again if real time was lost; return its events and what was heard."""
    for _ in range(10):
        with server.call(EVENTS) as caller:
            caller.until(wire.Kind.HANDSHAKE)
            caller.say(tone(1.0), audio_format="pcm", pace=0.06)
            caller.finish()
            caller.rest()
            assert caller.code == 1000
            events = [event for event in told(caller) if event["type"] not in {"SessionStarted", "SessionEnded"}]
            whole = len(caller.payloads(wire.Kind.AUDIO)) == -(-RATE // FRAME)  # else silence has stood in for it
            if whole and "Lag" not in {event["type"] for event in events}:
                return events, caller.sound("pcm")
    raise AssertionError("real time was lost each time")


def test_calls_are_answered_as_by_one_process(server):
    with fake_model(capacity=1) as model, running(model) as alone:
        events, heard = dialogue(alone)
    assert {"AgentText", "UserSpeechStarted"} <= {event["type"] for event in events}
    for _ in range(3):
        again, sound = dialogue(server)
        assert again == events
        assert np.array_equal(sound, heard)


def test_fifty_at_once_are_spread_over_the_fronts(server):
    before = metric(server, 'duplex_calls_ended_total{reason="finished"}')
    all_there, seen = Barrier(51), Barrier(51)

    def call(_):
        with server.call("?format=pcm") as caller:
            caller.until(wire.Kind.HANDSHAKE)
            all_there.wait(60)
            seen.wait(60)
            caller.say(tone(0.4), audio_format="pcm", pace=0.08)
            caller.finish()
            caller.rest()
            return caller.code, len(caller.payloads(wire.Kind.AUDIO))

    with ThreadPoolExecutor(50) as pool:
        calls = pool.map(call, range(50))
        all_there.wait(60)
        there = json.loads(get(server, "/readyz")[2])
        at_fronts = [connections(front) for front in fronts_of(os.getpid())]
        seen.wait(60)
        ended = list(calls)
    assert {code for code, _ in ended} == {1000}
    assert min(frames for _, frames in ended) >= 1
    assert (there["sessions"], sum(at_fronts)) == (50, 50)
    assert min(at_fronts) >= 5
    until(lambda: metric(server, 'duplex_calls_ended_total{reason="finished"}') >= before + 50)
    assert json.loads(get(server, "/readyz")[2]) == {"state": "ready", "sessions": 0, "queue": 0}


def test_places_and_the_queue_are_of_the_whole():
    with (
        fake_model(capacity=1) as model,
        running(model, Settings(queue=1), fronts=2) as server,
        server.call("?format=pcm") as first,
    ):
        first.until(wire.Kind.HANDSHAKE)
        with server.call("?events=full&format=pcm") as second:
            assert json.loads(second.until(wire.Kind.METADATA).payload)["position"] == 1
            assert [server.call().end()[0] for _ in range(3)] == [1013] * 3
            assert json.loads(get(server, "/readyz")[2]) == {"state": "full", "sessions": 1, "queue": 1}
            first.finish()
            first.rest()
            second.until(wire.Kind.HANDSHAKE)
            second.finish()
            second.rest()
            assert second.code == 1000
    assert model.closed


def test_a_ticket_is_good_at_any_front_and_once():
    with fake_model(capacity=8) as model, running(model, Settings(tokens=(TOKEN,)), fronts=2) as server:
        for _ in range(4):
            ticket = json.loads(ask(server, "POST", "/api/ticket", **BEARER)[2])["ticket"]
            with server.call(f"?format=pcm&ticket={ticket}") as caller:
                caller.until(wire.Kind.HANDSHAKE)
            refused = [get(server, f"/api/chat?ticket={ticket}")[0] for _ in range(2)]
            assert refused == [426, 426], "no websocket"
            with pytest.raises(Exception, match="401"):
                server.call(f"?ticket={ticket}")


def test_a_broken_line_comes_back_at_the_other_front(server):
    fronts = fronts_of(os.getpid())
    with contextlib.ExitStack() as others:
        caller = others.enter_context(server.call(EVENTS, close_timeout=0.1))
        offer = session(caller)
        owner, other = sorted(fronts, key=connections, reverse=True)
        caller.say(tone(0.4), audio_format="pcm", pace=0.08)
        caller.until(wire.Kind.AUDIO)
        vanish(caller)
        until(lambda: connections(owner) == 0)
        while connections(owner) <= connections(other):  # until the next one goes to the other
            others.enter_context(server.call("?format=pcm", close_timeout=0.1)).until(wire.Kind.HANDSHAKE)
        before = connections(other)
        query = f"{EVENTS}&resume={offer['resume']}&received={len(counted(caller))}"
        with server.call(query) as again:
            assert session(again)["generation"] == 2
            assert connections(other) == before + 1
            again.say(tone(0.4), audio_format="pcm", pace=0.08)
            again.finish()
            again.rest()
            assert again.code == 1000
            events = told(caller) + told(again)
        assert [event["sequence"] for event in events] == list(range(len(events)))
        with server.call(query) as late:
            assert late.end()[0] == 4409, "it is known to have been used, wherever one asks"


def test_observers_and_who_hangs_up_come_to_any_front(server):
    with contextlib.ExitStack() as observers, server.call(EVENTS) as caller:
        session_id = json.loads(caller.until(wire.Kind.METADATA).payload)["session_id"]
        path = f"/v1/live/sessions/{session_id}"
        for _ in range(4):
            observer = observers.enter_context(connect(server.url(f"{path}/attach", "ws"), compression=None))
            assert session_id in observer.recv(timeout=PATIENCE)
        assert ask(server, "POST", "/v1/live/sessions/unknown/hangup")[0] == 404
        assert ask(server, "POST", f"{path}/hangup")[0] == 204
        assert caller.end()[0] == 1000
        assert ask(server, "POST", f"{path}/hangup")[0] == 404


def test_a_front_that_is_killed_takes_its_calls_along_and_is_replaced(server):
    own, finished = os.getpid(), 'duplex_calls_ended_total{reason="finished"}'
    ended = metric(server, finished)
    with contextlib.ExitStack() as calls:
        callers = [calls.enter_context(server.call("?format=pcm")) for _ in range(4)]
        for each in callers:
            each.until(wire.Kind.HANDSHAKE)
        fronts = fronts_of(own)
        killed = max(fronts, key=connections)
        left = len(callers) - connections(killed)
        killed.kill()
        until(lambda: json.loads(get(server, "/readyz")[2])["sessions"] == left, PATIENCE)
        until(lambda: len(fronts_of(own, but=fronts)) == 1, PATIENCE)
        said = []
        for each in callers:
            with contextlib.suppress(ConnectionClosed):  # of those whose line is broken
                each.finish()
            said.append(each.end()[0])
        assert said.count(1000) == left, "the other one's calls went on"
    until(lambda: json.loads(get(server, "/readyz")[2])["sessions"] == 0)
    assert dialogue(server)[0] == dialogue(server)[0]
    until(lambda: metric(server, finished) >= ended + left + 2)


@pytest.mark.slow
def test_a_front_that_hangs_is_replaced(server, monkeypatch):
    monkeypatch.setattr(model_process, "SILENT_SECONDS", 6.0)
    fronts = fronts_of(os.getpid())
    hung = fronts[0]
    hung.suspend()
    psutil.wait_procs([hung], timeout=60)
    assert not hung.is_running()
    until(lambda: len(fronts_of(os.getpid(), but=[hung])) == 2, PATIENCE)
    assert dialogue(server)[0]


def test_the_end_of_the_models_process_ends_all_with_a_reason():
    with Process("--fronts", 2) as served, served.server.call("?format=pcm") as caller:
        caller.until(wire.Kind.AUDIO)
        fronts = fronts_of(served.process.pid)
        assert len(fronts) == 2
        served.process.kill()
        code, text = caller.end()
        assert (code, "call again" in text) == (1011, True)
        psutil.wait_procs(fronts, timeout=20)
        assert not any(front.is_running() for front in fronts)
        assert served.process.wait() == -signal.SIGKILL


def test_it_serves_until_it_is_told_to_stop(tmp_path):
    options = "--fronts", 2, "--drain", 20, "--tls", "--log-format", "json"
    with Process(*options, HOME=str(tmp_path)) as served, served.server.call("?format=pcm", scheme="wss") as caller:
        caller.until(wire.Kind.AUDIO)
        fronts = fronts_of(served.process.pid)
        for each in (served.process.pid, *(front.pid for front in fronts)):  # as an init system does
            os.kill(each, signal.SIGTERM)
        time.sleep(2.0)  # each front learns of it by itself
        with served.server.call(scheme="wss") as late:
            assert late.end()[0] == 1012
        caller.say(np.zeros(FRAME, np.float32), audio_format="pcm")
        caller.finish()
        assert caller.end()[0] == 1000, "a conversation may come to its end"
        said = served.process.communicate(timeout=30)[1]
        assert served.process.returncode == 0
        assert not any(front.is_running() for front in fronts)
    logged = [json.loads(line) for line in said.splitlines()]
    assert {line.get("reason") for line in logged} >= {"draining", "finished"}
    assert "error" not in {line["level"] for line in logged}


def test_fronts_that_do_not_start_end_the_server(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with fake_model() as model:
        with pytest.raises(ServerError, match="do not start"), running(model, fronts=2):
            pass
        assert model.free == 1


@pytest.mark.parametrize(
    ("sessions", "cores", "fronts"),
    [(4, 2, 1), (128, 2, 2), (200, 4, 4), (64, 16, 1), (65, 16, 2), (4000, 16, 16), (129, 64, 3)],
)
def test_how_many_there_are_if_nobody_says(monkeypatch, sessions, cores, fronts):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert usual_fronts(sessions) == fronts


def test_what_several_fronts_cannot_do_is_refused():
    with pytest.raises(UsageError, match="fronts is 0"):
        Listening(fronts=0)
    with (
        fake_model() as model,
        pytest.raises(UsageError, match="--fronts 1"),
        running(model, transcriber=model, fronts=2),
    ):
        pass
    with (
        fake_model(voice_activity=lambda _: None) as model,
        pytest.raises(UsageError, match="can be pickled"),
        running(model, fronts=2),
    ):
        pass
