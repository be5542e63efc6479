"""Messages between a front and the model's process, tickets that fronts share, and metrics as sums."""

import asyncio
import socket

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from duplex.errors import CapacityError, ModelError, ServerError, UsageError
from duplex.server.auth import Tickets
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.crowd import ABSENT, Crowd
from duplex.server.fronts.messages import Link, as_error, described
from duplex.server.fronts.shared_tickets import SharedTickets
from duplex.server.fronts.totals import families_of, of_front, sum_of, text_of, without_gauges

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param


async def linked(ours, theirs):
    """Return two links that are each other's ends."""
    links = []
    for end, obey in zip(socket.socketpair(), (ours, theirs), strict=True):
        links.append(Link(*await asyncio.open_unix_connection(sock=end), obey))
    return links


async def test_questions_are_answered_in_any_order_and_errors_cross():
    async def later(told):
        await anyio.sleep(0.01)
        return {"value": told["value"]}

    def obey(name, told):
        if name == "refuse":
            raise CapacityError("all places are taken")
        return later(told) if name == "later" else {"value": told["value"]}

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        answers = {}

        async def ask(name, value):
            answers[name] = (await one.ask(name, value=value))["value"]

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask, "later", 1)
            asking.start_soon(ask, "now", b"2")
        assert list(answers.items()) == [("now", b"2"), ("later", 1)]
        with pytest.raises(CapacityError, match="all places"):
            await other.ask("refuse")
        one.close()
    with pytest.raises(ServerError, match="has ended"):
        await other.ask("now", value=1)


@pytest.mark.parametrize("how", ["at once", "later", "with what cannot be sent", "later with that"])
async def test_an_error_that_nobody_foresaw_is_one_questions(how, caplog):
    """A voice that finds no memory, say: whoever asks is told, and all who talk over this link go on."""

    async def later():
        await anyio.lowlevel.checkpoint()
        if how == "later":
            raise RuntimeError("out of memory")
        return {"value": object()}

    def obey(name, told):
        if name != "fail":
            return {"value": told["value"]}
        if how == "at once":
            raise RuntimeError("out of memory")
        return {"value": object()} if how == "with what cannot be sent" else later()

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        with anyio.fail_after(10):
            one.tell("fail")
            with pytest.raises(ModelError, match=r"out of memory|nothing that a message can have"):
                await one.ask("fail")
            assert (await one.ask("now", value=1))["value"] == 1
        one.close()
    assert "Traceback" in caplog.text


async def test_who_waits_for_an_answer_is_told_that_none_comes():
    asked = anyio.Event()

    def obey(*_):
        asked.set()
        return anyio.sleep(60)

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)

        async def ask():
            with pytest.raises(ServerError, match="has ended"):
                await one.ask("anything")

        tasks.start_soon(ask)
        await asked.wait()
        other.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool", "int32"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
async def test_arrays_are_the_same_afterwards(dtype, shape):
    given = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    got = []
    one, other = await linked(lambda *_: None, lambda _, told: got.append(told["array"]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        await one.ask("take", array=given)
        one.close()
    assert got[0].dtype == given.dtype
    assert got[0].shape == given.shape
    assert (got[0] == given).all()
    assert got[0].flags.writeable


def test_errors_of_others_are_the_models():
    assert isinstance(as_error(described(UsageError("give another"))), UsageError)
    strange = as_error(described(ZeroDivisionError("by zero")))
    assert isinstance(strange, ModelError)
    assert "ZeroDivisionError: by zero" in str(strange)


async def test_a_bell_tells_the_last_count_of_each_ring():
    heard, done = [], anyio.Event()

    def hear(ring, written):
        heard.append((ring, written))
        if written == 9:
            done.set()

    ours, theirs = socket.socketpair()
    one, other = Bell(ours, hear), Bell(theirs, hear)
    for ring, written in ((0, 1), (1, 5), (0, 2), (1, 9)):
        assert one.ring(ring, written)
    with anyio.fail_after(10):
        await done.wait()
    assert heard == [(0, 2), (1, 9)]
    other.close()
    assert one.ring(0, 3), "who is gone is not one who does not listen"
    one.close()


async def test_a_bell_that_nobody_hears_is_told_of():
    ours, theirs = socket.socketpair()
    bell = Bell(ours, lambda *_: None)
    with theirs:
        assert not all(bell.ring(0, count) for count in range(1_000_000))
    bell.close()


def test_tickets_are_good_once_at_any_front(tmp_path):
    fronts = [SharedTickets(tmp_path / "tickets") for _ in range(3)]
    ticket, other = fronts[0].issue("alice", 100.0), fronts[1].issue("bob", 100.0)
    assert ticket != other
    assert fronts[2].redeem("guessed", 101.0) is None
    assert fronts[1].redeem(ticket, 101.0) == "alice"
    assert [front.redeem(ticket, 101.0) for front in fronts] == [None] * 3
    assert fronts[2].redeem(other, 100.0 + Tickets.SECONDS) is None, "it has ended"
    assert (tmp_path / "tickets").stat().st_mode & 0o077 == 0
    assert not any(secret in path.name for path in tmp_path.rglob("*") for secret in (ticket, other))


def test_there_are_not_ever_more_tickets(tmp_path, monkeypatch):
    monkeypatch.setattr(Tickets, "MAX_TICKETS", 5)
    office = SharedTickets(tmp_path / "tickets")
    others = office.issue("bob", 0.0)
    issued = [office.issue("alice", 0.0) for _ in range(9)]
    assert len(list((tmp_path / "tickets").glob("*/*"))) == 5 + 1
    assert office.redeem(issued[-1], 1.0) == "alice"
    assert office.redeem(others, 1.0) == "bob"


def test_who_has_more_connections_leaves_the_next_to_others():
    crowd = Crowd(bytearray(24), 3)
    crowd.note(2, ABSENT)
    crowd.note(0, 2)
    crowd.note(1, 1)
    assert [crowd.busiest(front) for front in range(3)] == [True, False, True]
    crowd.note(0, 1)
    assert [crowd.busiest(front) for front in range(2)] == [False, False]


def counted(calls, sessions, seconds):
    registry = CollectorRegistry()
    Counter("duplex_calls_ended", "Calls.", ("reason",), registry=registry).labels("hung_up").inc(calls)
    Gauge("duplex_sessions", "Now.", registry=registry).set(sessions)
    Gauge("open_files", "Now.", registry=registry).set(calls)
    histogram = Histogram("duplex_call_seconds", "Length.", buckets=(1, 5), registry=registry)
    for each in seconds:
        histogram.observe(each)
    return families_of(registry)


def test_metrics_are_of_the_whole():
    own, fronts = counted(0, 7, []), [of_front(counted(2, 99, [0.5, 3])), of_front(counted(3, 99, [3, 9]))]
    text = text_of(sum_of((own, *fronts))).decode()
    for line in (
        'duplex_calls_ended_total{reason="hung_up"} 5.0',
        "duplex_sessions 7.0",
        "open_files 5.0",
        'duplex_call_seconds_bucket{le="5.0"} 3.0',
        "duplex_call_seconds_count 4.0",
        "duplex_call_seconds_sum 15.5",
    ):
        assert line in text.splitlines()
    began = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("duplex_call_seconds_created")]
    assert began == [min(value for family in (own, *fronts) for name, _, value in family[-1][3] if "created" in name)]


def test_what_has_ended_still_counts():
    gone = without_gauges(of_front(counted(4, 1, [2])))
    text = text_of(sum_of((counted(1, 0, []), gone))).decode().splitlines()
    assert 'duplex_calls_ended_total{reason="hung_up"} 5.0' in text
    assert "open_files 1.0" in text
