"""The door of a cluster: callers are placed, heard and answered, refused where nothing is free, and follow."""

import http.client
import json
import time
from urllib.parse import urlsplit

import anyio
import attrs
import pytest
from fleet_support import SECRET, fleet
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duplex
from duplex.cluster.serving.ticket import sign_ticket
from duplex.errors import ServerError
from duplex.events import AgentAudio, EndReason, SessionEnded, SessionStarted
from duplex.transports import wire
from server_support import ask, get, tone, until

pytestmark = pytest.mark.anyio
ALICE, BOB = "a-token-of-alice", "a-token-that-is-bobs"
TOKENS = {"tokens": (f"alice:{ALICE}", f"bob:{BOB}")}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def places(door, token=ALICE, query=""):
    status, headers, text = ask(door, "POST", f"/api/place{query}", **bearer(token))
    assert status == 200, text
    assert headers["cache-control"] == "no-store"
    return json.loads(text)["places"]


def open_with(replica, ticket):
    return replica.client.call(f"?ticket={ticket}&format=pcm")


def refused(replica, ticket):
    with pytest.raises(InvalidStatus) as error:
        open_with(replica, ticket)
    return error.value.response.status_code


async def test_a_caller_is_placed_heard_and_answered(models):
    with fleet(models(capacity=1), models(capacity=1)) as (cluster, door):
        async with duplex.connect(door.url()) as first, duplex.connect(door.url()) as second:
            for conversation in (first, second):
                with anyio.fail_after(20):
                    events = [event async for event in conversation.run(tone(0.4))]
                assert isinstance(events[0], SessionStarted)
                assert sum(isinstance(event, AgentAudio) for event in events) == events[-1].usage.frames >= 5
                assert events[-1].reason is EndReason.FINISHED
        ended = [get(each.client, "/metrics")[2] for each in cluster.replicas]
        assert all('duplex_calls_ended_total{reason="finished"} 1.0' in each for each in ended)


async def test_a_full_replica_refuses_and_the_caller_asks_at_the_next(models):
    """What the ingress knows is old: both replicas are told as free."""
    with fleet(models(capacity=1), models(capacity=1), queue=0) as (cluster, door):
        full, free = cluster.replicas
        with full.client.call("?format=pcm") as talking:
            talking.until(wire.Kind.HANDSHAKE)
            full.silent = free.silent = True
            stale = [(0.0, attrs.evolve(cluster.report(index), talking=0, state="ready")) for index in (0, 1)]
            cluster.registry.reports = lambda: stale
            async with duplex.connect(door.url()) as conversation:
                assert [event async for event in conversation.run(tone(0.1))][-1].reason is EndReason.FINISHED
            assert "duplex_calls_refused" in get(full.client, "/metrics")[2]
        assert 'duplex_calls_ended_total{reason="finished"} 1.0' in get(free.client, "/metrics")[2]


async def test_nobody_is_let_in_where_all_are_full(models):
    with fleet(models(capacity=1), queue=0) as (cluster, door):
        (replica,) = cluster.replicas
        with replica.client.call("?format=pcm") as talking:
            talking.until(wire.Kind.HANDSHAKE)
            until(lambda: get(door, "/readyz")[0] == 503)
            with pytest.raises(ServerError, match="every place is taken"):
                async with duplex.connect(door.url()):
                    pass
            status, headers, text = ask(door, "POST", "/api/place")
            assert (status, headers["retry-after"]) == (503, "5")
            assert "every place is taken" in text
            assert json.loads(get(door, "/readyz")[2])["state"] == "full"
        until(lambda: get(door, "/readyz")[0] == 200)


async def test_one_that_died_is_passed_over(models):
    with fleet(models(capacity=1), models(capacity=1)) as (cluster, door):
        dead = cluster.replicas[0]
        stale = [(0.0, told) for _, told in cluster.registry.reports()]
        cluster.registry.reports = lambda: stale
        await anyio.to_thread.run_sync(dead.stop)
        async with duplex.connect(door.url()) as conversation:
            assert [event async for event in conversation.run(tone(0.1))][-1].reason is EndReason.FINISHED


def test_a_ticket_is_good_at_its_replica_alone_and_once(models):
    with fleet(models(capacity=2), models(capacity=2), **TOKENS) as (cluster, door):
        by_url = {each.server.url: each for each in cluster.replicas}
        first, second = places(door)
        mine, other = by_url[first["url"]], by_url[second["url"]]
        assert refused(other, first["ticket"]) == 401
        with open_with(mine, first["ticket"]) as caller:
            caller.until(wire.Kind.HANDSHAKE)
            assert refused(mine, first["ticket"]) == 401
        old = sign_ticket(SECRET, mine.name, "alice", time.time() - 61)
        assert refused(mine, old) == 401
        assert refused(mine, sign_ticket(b"guessed", mine.name, "alice", time.time())) == 401
        assert refused(mine, first["ticket"][:-4] + "AAAA") == 401
        assert refused(mine, "") == 401


def test_no_token_no_place(models):
    with fleet(models(capacity=1), **TOKENS) as (_, door):
        assert ask(door, "POST", "/api/place")[0] == 401
        assert ask(door, "POST", "/api/place", **bearer("wrong"))[0] == 401
        with pytest.raises(InvalidStatus) as error:
            connect(door.url("/api/chat", "ws")).__enter__()
        assert error.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as error:
            connect(door.url("/api/chat", "ws"), origin="http://elsewhere.example").__enter__()
        assert error.value.response.status_code == 403
        assert ask(door, "GET", "/", Host="elsewhere.example")[0] == 200  # with tokens any name will do


async def test_a_token_lets_its_owner_in_and_back(models):
    with fleet(models(capacity=1), **TOKENS) as (cluster, door):
        notes = []
        async with (
            duplex.connect(door.url(), token=BOB, interrupted=notes.append) as conversation,
            anyio.create_task_group() as tasks,
        ):

            async def talk():
                await conversation.send(tone(0.4))
                await anyio.sleep(0.5)
                await conversation._runner.line.websocket._stream.aclose()
                await conversation.send(tone(0.4))
                await conversation.finish()

            tasks.start_soon(talk)
            with anyio.fail_after(20):
                events = [event async for event in conversation]
        assert notes == [True, False]
        assert events[-1].reason is EndReason.FINISHED
        assert "duplex_calls_resumed_total 1.0" in get(cluster.replicas[0].client, "/metrics")[2]


def test_a_client_that_follows_redirections_needs_to_know_nothing(models):
    with fleet(models(capacity=1), **TOKENS) as (cluster, door):
        with connect(
            door.url("/api/chat?format=pcm&seed=3", "ws"), additional_headers=bearer(ALICE), compression=None
        ) as caller:
            assert caller.recv(timeout=10)[0] == wire.Kind.HANDSHAKE
            assert caller.remote_address[1] == cluster.replicas[0].port
        connection = http.client.HTTPConnection("127.0.0.1", door.port)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        connection.request("GET", "/api/chat?seed=3&ticket=mine", headers={**upgrade, **key, **bearer(ALICE)})
        answer = connection.getresponse()
        location = urlsplit(answer.headers["Location"])
        assert (answer.status, location.scheme, location.path) == (307, "", "/api/chat")
        assert location.query.startswith("seed=3&ticket=place.")
        assert json.loads(answer.read())["places"][0]["url"].endswith(f":{location.port}")
        connection.close()


def test_the_page_may_connect_to_replicas_and_they_let_it(models):
    with fleet(models(capacity=1)) as (cluster, door):
        status, headers, text = get(door, "/")
        assert status == 200
        assert "<html" in text
        policy = headers["content-security-policy"]
        assert "connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*;" in policy
        assert "script-src 'self'" in policy
        info = json.loads(get(door, "/api/info")[2])
        assert (info["placed"], info["replicas"], info["sessions"], info["token"]) == (True, 1, 1, False)
        assert get(door, "/main.js")[0] == 200
        assert get(door, "/healthz")[0] == 200
        assert get(cluster.replicas[0].client, "/")[1]["content-security-policy"].count("127.0.0.1") == 0


def test_the_metrics_of_all_replicas_are_one_view(models):
    with fleet(models(capacity=1), models(capacity=3)) as (cluster, door):
        with cluster.replicas[1].client.call("?format=pcm") as caller:
            caller.until(wire.Kind.HANDSHAKE)
            text = get(door, "/metrics")[2]
        assert 'duplex_places{model="fake",replica="replica-0"} 1.0' in text
        assert 'duplex_sessions{model="fake",replica="replica-1"} 1.0' in text
        assert text.count("# TYPE duplex_sessions gauge") == 1
        assert 'duplex_calls_ended_total{reason="finished",replica="replica-0"} 0.0' in text
        assert "duplex_replicas 2.0" in text
        assert ask(door, "POST", "/api/place")[0] == 200
        assert "duplex_placed_total 1.0" in get(door, "/metrics")[2]


async def test_a_replica_that_is_to_go_has_its_calls_moved(models, tmp_path):
    with fleet(models(capacity=2), models(capacity=2), state_store=tmp_path / "states") as (cluster, door):
        notes = []
        async with (
            duplex.connect(door.url(), interrupted=notes.append) as conversation,
            anyio.create_task_group() as tasks,
        ):

            async def talk():
                await conversation.send(tone(0.8))
                await anyio.sleep(0.6)
                going = next(each for each in cluster.replicas if each.server.load()[0])
                await anyio.to_thread.run_sync(going.stop)
                await conversation.send(tone(0.8))
                await conversation.finish()

            tasks.start_soon(talk)
            with anyio.fail_after(30):
                events = [event async for event in conversation]
    assert notes == [True, False]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [type(event) for event in events].count(SessionStarted) == 1
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].reason is EndReason.FINISHED


async def test_a_replica_that_is_to_go_waits_for_a_call_that_cannot_move(models):
    with fleet(models(capacity=1)) as (cluster, door):
        (going,) = cluster.replicas
        async with duplex.connect(door.url()) as conversation, anyio.create_task_group() as tasks:

            async def talk():
                await conversation.send(tone(0.4))
                await anyio.sleep(0.3)
                tasks.start_soon(anyio.to_thread.run_sync, going.stop)
                until_draining = anyio.to_thread.run_sync(until, lambda: cluster.report(0).state == "draining")
                await until_draining
                await conversation.send(tone(0.4))
                await conversation.finish()

            tasks.start_soon(talk)
            with anyio.fail_after(20):
                events = [event async for event in conversation]
        assert events[-1].reason is EndReason.FINISHED
        assert ask(door, "POST", "/api/place")[0] == 503


async def test_all_replicas_end_their_calls_in_the_time_that_is_left(models):
    with fleet(models(capacity=1)) as (cluster, door):
        (going,) = cluster.replicas
        cluster.registry.stop(0.5)
        async with duplex.connect(door.url()) as conversation:
            await conversation.send(tone(0.4))
            until(lambda: going.server.load()[0])
            with anyio.fail_after(20):
                await anyio.to_thread.run_sync(going.stop)
            with pytest.raises(ServerError, match="restart"):
                _ = [event async for event in conversation]
