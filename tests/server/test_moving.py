"""Calls that go on at another server: one that stops has them moved, one that dies has saved them."""

import contextlib
import json
import threading

import anyio
import msgpack
import pytest
from resuming_support import counted, session, vanish

import duplex
from duplex.events import EndReason, SessionEnded, SessionStarted
from duplex.server import Settings
from duplex.server.handover import moving
from duplex.server.handover.folder_store import FolderStore
from duplex.server.handover.records import MovedCall
from duplex.server.handover.stores import StoreError
from duplex.server.metrics import Metrics
from duplex.transports import wire
from server_support import ask, get, running, tone, until

pytestmark = pytest.mark.anyio
EVENTS = "?events=full&format=pcm"


@contextlib.contextmanager
def two(models, folder, second=None, **settings):
    """Run two servers with one store; the first one's calls move to the second."""
    with running(second or models(capacity=2), Settings(state_store=folder, **settings)) as other:
        rules = Settings(state_store=folder, move_to=(other.url(),), **settings)
        with running(models(capacity=2), rules) as server:
            yield server, other


def stored(folder):
    return [path for path in folder.iterdir() if len(path.name) == 64]


async def stop(server):
    await anyio.to_thread.run_sync(server.cancel)


async def test_a_server_that_stops_moves_its_calls(models, tmp_path):
    notes, events = [], []
    with two(models, tmp_path / "states") as (server, other):
        async with (
            duplex.connect(server.url(), interrupted=notes.append) as conversation,
            anyio.create_task_group() as tasks,
        ):

            async def talk():
                await conversation.send(tone(0.8))
                await anyio.sleep(0.6)
                await stop(server)
                await conversation.send(tone(0.8))
                await conversation.finish()

            tasks.start_soon(talk)
            with anyio.fail_after(20):
                events = [event async for event in conversation]
        assert "duplex_calls_resumed_total 1.0" in get(other, "/metrics")[2]
    assert notes == [True, False]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [type(event) for event in events].count(SessionStarted) == 1
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].reason is EndReason.FINISHED
    assert events[-1].usage.frames >= 0.8 / 0.08


async def test_a_call_that_does_not_stand_still_in_time_goes_on_here(models, tmp_path, monkeypatch):
    """Its model answers when nobody waits for that any more."""
    monkeypatch.setattr(moving, "HALT_SECONDS", 0.1)
    begun, goes_on = threading.Event(), threading.Event()

    def on_step(_):
        begun.set()
        assert goes_on.wait(20)

    with anyio.fail_after(20):
        async with duplex.Conversation(models(on_step=on_step)) as conversation:
            await conversation.send(tone(0.4))
            await anyio.to_thread.run_sync(begun.wait, 20)
            assert not await moving.move(FolderStore(tmp_path), None, conversation, "ws://elsewhere", Metrics())
            goes_on.set()
            await conversation.finish()
            events = [event async for event in conversation]
    assert events[-1].reason is EndReason.FINISHED


def test_what_a_caller_of_a_server_that_dies_gets(models, tmp_path):
    """The first server goes on as if it were unreachable: its caller goes on at the other, and it finds that out."""
    with two(models, tmp_path / "states") as (server, other), server.call(EVENTS) as caller:
        offer = session(caller)
        caller.say(tone(0.8), audio_format="pcm", pace=0.08)
        until(lambda: stored(tmp_path / "states"))
        caller.until(wire.Kind.AUDIO)
        anyio.run(anyio.sleep, 0.3)
        query = f"{EVENTS}&resume={offer['resume']}&received={len(counted(caller))}&sequence=17"
        with other.call(query) as again:
            told = session(again)
            assert told["generation"] == 2
            assert told["away"] > 0
            again.say(tone(0.4), audio_format="pcm", pace=0.08)
            again.finish()
            again.rest()
            assert again.code == 1000
        events = [json.loads(payload) for payload in again.payloads(wire.Kind.METADATA)]
        events = [event for event in events if event["type"] != "Session"]
        assert [event["sequence"] for event in events] == list(range(17, 17 + len(events)))
        assert "SessionStarted" not in [event["type"] for event in events]
        assert any(event["type"] == "Lag" and event["side"] == "user" for event in events)
        assert caller.end()[0] == 4410  # it wanted to save the call, which is another's
        assert server.call(query).end()[0] in (4404, 4409)
        assert other.call(query).end()[0] in (4404, 4409)


@pytest.mark.slow
def test_a_state_of_another_checkpoint(models, tmp_path):
    other_model = models(capacity=2, delays=(0, 0, 2, 0, 2))
    with two(models, tmp_path / "states", second=other_model) as (server, other), server.call(EVENTS) as caller:
        offer = session(caller)
        until(lambda: stored(tmp_path / "states"))
        code, told = other.call(f"{EVENTS}&resume={offer['resume']}&received=0").end()
    assert code == 4406, told


def test_a_call_that_is_over_is_not_kept(models, tmp_path):
    with two(models, tmp_path / "states") as (server, other), server.call(EVENTS) as caller:
        offer = session(caller)
        until(lambda: stored(tmp_path / "states"))
        caller.finish()
        caller.rest()
        until(lambda: not stored(tmp_path / "states"))
        assert other.call(f"{EVENTS}&resume={offer['resume']}&received=0").end()[0] == 4404


def test_a_store_that_is_full_costs_no_call(models, tmp_path, monkeypatch):
    async def full(*_):
        raise StoreError("it is full")

    monkeypatch.setattr(FolderStore, "put", full)
    with two(models, tmp_path / "states") as (server, _), server.call(EVENTS) as caller:
        session(caller)
        until(lambda: "duplex_states_not_kept_total 1.0" in get(server, "/metrics")[2])
        caller.say(tone(0.4), audio_format="pcm", pace=0.08)
        caller.finish()
        caller.rest()
        assert caller.code == 1000


def test_who_comes_back_to_the_same_server_keeps_the_call(models, tmp_path):
    with two(models, tmp_path / "states") as (server, _), server.call(EVENTS) as caller:
        offer = session(caller)
        until(lambda: stored(tmp_path / "states"))
        vanish(caller)
        query = f"{EVENTS}&resume={offer['resume']}&received={len(counted(caller))}"
        with server.call(query) as again:
            session(again)
            again.finish()
            again.rest()
            assert again.code == 1000


def test_a_call_that_comes_back_by_way_of_another_server_is_found(models, tmp_path, monkeypatch):
    """The first server still holds it as it was, and ends that when it finds out."""
    monkeypatch.setattr(moving, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(moving, "SECONDS_BETWEEN", 0.5)
    with two(models, tmp_path / "states") as (server, other), server.call(EVENTS) as caller:
        offer = session(caller)
        until(lambda: stored(tmp_path / "states"))
        session_id = json.loads(caller.payloads(wire.Kind.METADATA)[0])["session_id"]
        with other.call(f"{EVENTS}&resume={offer['resume']}&received={len(counted(caller))}") as there:
            offer, before = session(there), stored(tmp_path / "states")
            until(lambda: set(stored(tmp_path / "states")) - set(before))
            with server.call(f"{EVENTS}&resume={offer['resume']}&received={len(counted(there))}") as again:
                session(again)
                assert (caller.end()[0], there.end()[0]) == (4410, 4410)
                assert ask(server, "POST", f"/v1/live/sessions/{session_id}/hangup")[0] == 204
                assert again.end()[0] == 1000


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x91\x01", bytes(100)])
def test_records_that_are_none(data):
    with pytest.raises(duplex.StateError):
        MovedCall.from_bytes(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": 5},
        {"query": [("events", "full")]},
        {"query": {"seed": 3}},
        {"state": "text"},
        {"generation": None},
        {"saved_at": -1.0},
        {"saved_at": "now"},
        {"sent": ((1, True),)},
        {"sent": 7},
        {"count": -1},
        {"more": 1},
    ],
    ids=str,
)
def test_a_record_with_something_of_another_kind(wrong):
    moved = MovedCall(path="/api/chat", query={"events": "full"}, state=b"state", generation=2, sent=((4, True, b"x"),))
    record = msgpack.unpackb(moved.to_bytes())
    with pytest.raises(duplex.StateError, match="damaged"):
        MovedCall.from_bytes(msgpack.packb({**record, **wrong}))


def test_a_record_keeps_no_secret():
    query = {"events": "full", "ticket": "t", "resume": "r", "received": "1", "seed": "3"}
    moved = MovedCall(path="/api/chat", query=query, state=b"state", generation=2, sent=((4, True, b"x"),), count=5)
    again = MovedCall.from_bytes(moved.to_bytes())
    assert again.query == {"events": "full", "seed": "3"}
    assert (again.sent, again.count, again.generation) == (((4, True, b"x"),), 5, 2)
