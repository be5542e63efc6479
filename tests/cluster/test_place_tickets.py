"""Tickets for a place: one replica, one use, a minute, and nobody else's signature."""

import base64
import json

import pytest

from duplex.cluster.serving.ticket import PlaceTickets, sign_ticket

SECRET, NOW = b"the cluster's", 1_700_000_000.0


@pytest.fixture
def clock():
    return [NOW]


@pytest.fixture
def tickets(clock):
    return PlaceTickets(SECRET, "one", lambda: clock[0])


def test_a_ticket_is_its_callers_at_its_replica_once(tickets):
    ticket = sign_ticket(SECRET, "one", "alice", NOW)
    assert tickets.redeem(ticket, 0.0) == "alice"
    assert tickets.redeem(ticket, 0.0) is None


def test_a_ticket_of_another_replica_is_not_good_and_stays_good_there(tickets):
    ticket = sign_ticket(SECRET, "other", "alice", NOW)
    assert tickets.redeem(ticket, 0.0) is None
    assert PlaceTickets(SECRET, "other", lambda: NOW).redeem(ticket, 0.0) == "alice"


@pytest.mark.parametrize(("later", "owner"), [(59.0, ""), (60.0, None), (3600.0, None), (-61.0, None)])
def test_a_ticket_ends_after_a_minute_and_is_not_from_the_future(tickets, clock, later, owner):
    ticket = sign_ticket(SECRET, "one", "", NOW)
    clock[0] = NOW + later
    assert tickets.redeem(ticket, 0.0) == owner


def forged():
    """Tickets that nobody has signed, or whose words were changed after that."""
    good = sign_ticket(SECRET, "one", "alice", NOW)
    said, signature = good.removeprefix("place.").split(".")
    content = json.loads(base64.urlsafe_b64decode(said + "=="))
    for changed in (["other", *content[1:]], ["one", "bob", *content[2:]], [*content[:2], NOW + 999, content[3]]):
        text = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
        yield f"place.{text}.{signature}"
    yield sign_ticket(b"another", "one", "alice", NOW)
    yield f"place.{said}."
    yield f"place.{said}"
    yield f"place.{said}.{signature[:-1]}"
    yield from ("place.", "place..", "place.\udcff.\udcff", "place." + "x" * 10_000, "", "place.e30.e30")


@pytest.mark.parametrize("number", range(len(list(forged()))))
def test_a_forged_ticket_is_not_good(tickets, number):
    ticket = list(forged())[number]
    assert tickets.redeem(ticket, 0.0) is None


def test_every_changed_character_is_noticed(tickets):
    good = sign_ticket(SECRET, "one", "alice", NOW)
    for at in range(len(good)):
        # (The last letter of a signature has two bits that mean nothing; they are compared all the same.)
        changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        assert tickets.redeem(changed, 0.0) is None
    assert tickets.redeem(good, 0.0) == "alice"


def test_a_replicas_own_tickets_are_taken_as_before(tickets):
    ticket = tickets.issue("bob", 5.0)
    assert tickets.redeem(ticket, 6.0) == "bob"
    assert tickets.redeem(ticket, 6.0) is None


def test_who_has_many_tickets_cannot_have_an_old_one_forgotten(tickets, clock, monkeypatch):
    monkeypatch.setattr(PlaceTickets, "MAX_TICKETS", 3)
    first, *others = (sign_ticket(SECRET, "one", "alice", NOW) for _ in range(4))
    assert tickets.redeem(first, 0.0) == "alice"
    assert [tickets.redeem(each, 0.0) for each in others] == ["alice", "alice", None]
    assert tickets.redeem(first, 0.0) is None
    clock[0] = NOW + 61
    assert tickets.redeem(sign_ticket(SECRET, "one", "alice", clock[0]), 0.0) == "alice"
    assert len(tickets._taken) == 1
