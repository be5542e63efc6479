"""What the fronts of a server share: tickets, who accepts the next connection, metrics as sums."""

import os
from types import SimpleNamespace

import anyio
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from duplex.server import Settings, retention
from duplex.server.auth import Tickets, digest_of
from duplex.server.fronts.crowd import ABSENT, Crowd
from duplex.server.fronts.distant_door import DistantDoor
from duplex.server.fronts.front import _Front
from duplex.server.fronts.shared_tickets import SharedTickets
from duplex.server.fronts.totals import families_of, of_front, registry_of, sum_of, without_gauges
from duplex.testing import fake_model


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
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5 + 1
    assert office.redeem(issued[-1], 1.0) == "alice"
    assert office.redeem(others, 1.0) == "bob"


def test_no_request_for_a_ticket_looks_through_all_of_them(tmp_path, monkeypatch):
    fronts = [SharedTickets(tmp_path / "tickets") for _ in range(2)]
    first = fronts[0].issue("alice", 0.0)
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("the folder was listed"))
    ticket = fronts[0].issue("alice", 1.0)
    assert [fronts[1].redeem(each, 2.0) for each in (ticket, first, ticket)] == ["alice", "alice", None]


def test_tickets_that_have_ended_go_away(tmp_path):
    office = SharedTickets(tmp_path / "tickets")
    for _ in range(5):
        office.issue("alice", 0.0)
    for now in range(5):
        office.issue("alice", Tickets.SECONDS + now)
    assert len(list((tmp_path / "tickets").iterdir())) == 5
    left = office.issue("alice", 0.0)
    for path in (tmp_path / "tickets").iterdir():
        if path.name != digest_of(left).hex():
            os.utime(path, (0, 0))
    assert SharedTickets(tmp_path / "tickets").redeem(left, 1.0) == "alice"
    assert list((tmp_path / "tickets").iterdir()) == [], "nor does what a front has left that was killed stay"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_recordings_are_not_looked_through_by_fronts(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(retention, "recordings_in", lambda folder: looked.append(folder) or [])
    plan = SimpleNamespace(settings=Settings(record=tmp_path, record_days=1.0), folder=str(tmp_path), number=0)
    with fake_model() as model:
        front = SimpleNamespace(_plan=plan, _models=[model], _doors=[DistantDoor(None, 0)], _ask_metrics=None)
        front._telemetry = None
        service = _Front._make_service(front)
        with anyio.move_on_after(0.3):
            await service.watch_loop()
    assert service.settings.record == tmp_path, "they are written"
    assert looked == []


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


def text_of(families):
    return generate_latest(registry_of(lambda: families)).decode()


def test_metrics_are_of_the_whole():
    own, fronts = counted(0, 7, []), [of_front(counted(2, 99, [0.5, 3])), of_front(counted(3, 99, [3, 9]))]
    text = text_of(sum_of((own, *fronts)))
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
    text = text_of(sum_of((counted(1, 0, []), gone))).splitlines()
    assert 'duplex_calls_ended_total{reason="hung_up"} 5.0' in text
    assert "open_files 1.0" in text
