"""A server's decisions, without sockets: who comes in, with what secret, from where, and with what parameters."""

import random

import pytest

from duplex.errors import UsageError
from duplex.server.admission import Admission, Refusal
from duplex.server.auth import Tickets, Tokens
from duplex.server.call_parameters import CallParameters
from duplex.server.origins import origin_allowed
from duplex.server.settings import Settings, is_loopback

TOKEN, OTHER = "a-token-of-some-length", "another-token-of-length"


# Admission


def test_places_are_given_in_the_order_of_arrival():
    door = Admission(places=2, queue=2, per_address=0)
    first, second, third, fourth = (door.arrive("here") for _ in range(4))
    assert [door.position(caller) for caller in (first, second, third, fourth)] == [0, 0, 1, 2]
    assert door.full
    assert door.arrive("here") is Refusal.FULL
    door.leave(second)
    assert [door.position(caller) for caller in (first, third, fourth)] == [0, 0, 1]
    door.leave(fourth)
    assert (door.talking, door.waiting) == (2, 0)
    door.leave(first)
    door.leave(third)
    assert (door.talking, door.waiting, door.full) == (0, 0, False)


def test_an_address_has_its_limit():
    door = Admission(places=5, queue=5, per_address=2)
    kept = [door.arrive("a"), door.arrive("a")]
    assert door.arrive("a") is Refusal.TOO_MANY
    assert not isinstance(door.arrive("b"), Refusal)
    door.leave(kept[0])
    assert not isinstance(door.arrive("a"), Refusal)


def test_nobody_comes_in_while_it_drains():
    door = Admission(places=2, queue=2, per_address=0)
    door.arrive("a")
    door.draining = True
    assert door.arrive("b") is Refusal.DRAINING
    assert door.full


def test_nobody_is_lost_whatever_happens():
    rng = random.Random(0)  # noqa: S311 -- of a test
    door = Admission(places=3, queue=4, per_address=3)
    inside = {}
    for _ in range(3000):
        if inside and rng.random() < 0.5:
            caller = rng.choice(list(inside))
            door.leave(caller)
            del inside[caller]
        else:
            address = rng.choice("abcd")
            caller = door.arrive(address)
            if isinstance(caller, Refusal):
                assert (caller is Refusal.TOO_MANY) == (list(inside.values()).count(address) >= 3)
            else:
                inside[caller] = address
        assert door.talking + door.waiting == len(inside)
        assert door.talking == min(3, len(inside))
        waiting = sorted(caller for caller in inside if door.position(caller))
        assert [door.position(caller) for caller in waiting] == list(range(1, len(waiting) + 1))


@pytest.mark.parametrize("wrong", [(0, 1, 0), (1, -1, 0), (1, 1, -1)])
def test_a_server_without_places(wrong):
    with pytest.raises(UsageError, match="needs 1 place or more"):
        Admission(*wrong)


# Secrets


def test_tokens():
    tokens = Tokens([TOKEN, OTHER])
    assert tokens.wanted
    for shown in (f"Bearer {TOKEN}", f"bearer {OTHER}", f"Bearer  {TOKEN} "):
        assert tokens.owner(shown)
    for shown in (None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \udcff"):
        assert tokens.owner(shown) is None
    assert not Tokens([]).owner(None)
    with pytest.raises(UsageError, match="give at least 16") as raised:
        Tokens(["short"])
    assert "short" not in str(raised.value).replace("short-", "")


def test_tokens_have_names():
    tokens = Tokens([f"alice:{TOKEN}", OTHER])
    assert tokens.owner(f"Bearer {TOKEN}") == "alice"
    assert tokens.owner(f"Bearer alice:{TOKEN}") is None, "the name is no part of the secret"
    unnamed = tokens.owner(f"Bearer {OTHER}")
    assert len(unnamed) == 8
    assert unnamed not in OTHER
    assert Tokens([OTHER]).owner(f"Bearer {OTHER}") == unnamed, "the same on every server"
    with pytest.raises(UsageError, match="has 5 characters"):
        Tokens(["a-name-that-is-long-enough:short"])


def test_a_ticket_is_good_once_and_for_a_minute():
    tickets = Tickets()
    first, second = tickets.issue("alice", 100.0), tickets.issue("", 100.0)
    assert first != second
    assert tickets.redeem(first, 159.0) == "alice"
    assert tickets.redeem(first, 159.0) is None
    assert tickets.redeem(second, 160.5) is None
    assert tickets.redeem("", 100.0) is None
    assert tickets.redeem(tickets.issue("", 100.0), 100.0) == "", "where no token is wanted"


def test_who_asks_for_many_tickets_takes_nobody_elses():
    tickets = Tickets()
    alices, first = tickets.issue("alice", 100.0), tickets.issue("bob", 100.0)
    last = [tickets.issue("bob", 100.0) for _ in range(Tickets.MAX_TICKETS)][-1]
    assert tickets.redeem(first, 101.0) is None, "bob's own make room"
    assert [tickets.redeem(each, 101.0) for each in (last, alices)] == ["bob", "alice"]


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "fine"),
    [
        (None, "here:8998", (), True),
        ("http://here:8998", "here:8998", (), True),
        ("https://HERE", "here", (), True),
        ("http://there", "here", (), False),
        ("http://here:1", "here:2", (), False),
        ("http://there", "here", ("http://there",), True),
        ("http://there.evil", "here", ("http://there",), False),
        ("http://any", "here", ("*",), True),
        ("null", "here", (), False),
        ("http://[", "here", (), False),
        ("", "", (), False),
        ("http://", None, (), False),
    ],
)
def test_origins(origin, host, allowed, fine):
    assert origin_allowed(origin, host, allowed) is fine


def test_loopback():
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.com", ""))  # noqa: S104 -- names


# CallParameters and settings


def test_the_words_of_the_originals_page():
    query = {
        "text_temperature": "0.6",
        "text_topk": "20",
        "audio_temperature": "0.7",
        "audio_topk": "200",
        "pad_mult": "0",
        "text_seed": "3",
        "audio_seed": "4",
        "repetition_penalty": "1.0",
    }
    options = CallParameters.read(query).options
    assert (options.text_temperature, options.text_top_k) == (0.6, 20)
    assert (options.temperature, options.top_k, options.seed) == (0.7, 200, 4)
    assert CallParameters.read({"audio_seed": "-1"}).options.seed is None


def test_our_own_words():
    parameters = CallParameters.read(
        {"seed": "5", "temperature": "0", "format": "pcm", "events": "full", "unknown": "x"}
    )
    assert (parameters.options.seed, parameters.options.temperature) == (5, 0.0)
    assert (parameters.audio_format.encoding, parameters.events) == ("pcm", True)
    assert CallParameters.read({}) == CallParameters()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"seed": "x"}, "seed is 'x'"),
        ({"temperature": "nan"}, "temperature"),
        ({"top_k": "-1"}, "top_k"),
        ({"format": "mp3"}, "'opus' or 'pcm'"),
    ],
)
def test_wishes_that_make_no_sense(query, told):
    with pytest.raises(UsageError, match=told):
        CallParameters.read(query)


@pytest.mark.parametrize("wrong", [{"queue": -1}, {"idle_timeout": float("nan")}, {"session_limit": float("inf")}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UsageError, match="not negative"):
        Settings(**wrong)


def test_tokens_are_not_shown():
    assert TOKEN not in repr(Settings(tokens=(TOKEN,)))
