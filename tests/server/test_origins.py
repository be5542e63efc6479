"""What a server is called, whose pages may call it, and which addresses are one: decisions, without sockets."""

import pytest

from duplex.errors import UsageError
from duplex.server.admission import Admission, Refusal
from duplex.server.origins import LOOPBACK_NAMES, host_allowed, origin_allowed
from duplex.server.settings import Settings

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's


@pytest.mark.parametrize("scheme", ["ftp", "chrome-extension", "file", "ws", "javascript", "https+x", ""])
def test_only_web_pages_come_from_the_same_host(scheme):
    assert not origin_allowed(f"{scheme}://here", "here", ())
    assert origin_allowed("http://here", "here", ())


@pytest.mark.parametrize(
    ("origin", "host", "fine"),
    [
        ("https://here", "here:443", True),
        ("http://here", "here:80", True),
        ("https://here", "here:80", False),
        ("http://here:8080", "here", False),
        ("http://here:8080", "here:8080", True),
        ("http://[::1]:8998", "[::1]:8998", True),
        ("http://here.evil", "here", False),
        ("http://user@here", "here", False),
        ("http://here/", "here", False),
        ("http://here:", "here", False),
        ("http://here ", "here", False),
    ],
)
def test_the_port_that_a_scheme_has_by_itself(origin, host, fine):
    assert origin_allowed(origin, host, ()) is fine


def test_extensions_may_be_allowed_by_name():
    allowed = Settings(origins=("chrome-extension://abcdef", "HTTPS://Friend.Example:443/", "null")).origins
    assert allowed == ("chrome-extension://abcdef", "https://friend.example", "null")
    assert origin_allowed("chrome-extension://abcdef", "here", allowed)
    assert origin_allowed("https://friend.example", "here", allowed)
    assert not origin_allowed("chrome-extension://other", "here", allowed)


@pytest.mark.parametrize("wrong", ["example.com", "https://example.com/page", "https://", "", "https://*.example.com"])
def test_what_is_no_origin(wrong):
    with pytest.raises(UsageError, match="is no origin"):
        Settings(origins=(wrong,))


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("talk.example.org", True),
        ("TALK.example.org:8080", True),
        ("talk.example.org.", True),
        ("a.below.example", True),
        ("a.b.below.example", True),
        ("below.example", False),
        ("xbelow.example", False),
        ("[2001:db8::1]:80", True),
        ("talk.example.org.evil", False),
        ("evil/talk.example.org", False),
        ("evil@talk.example.org", False),
        ("talk.example.org:x", False),
        ("", False),
        (None, False),
    ],
)
def test_names_of_a_server(host, fine):
    names = Settings(hosts=("Talk.example.org", "*.below.example", "2001:DB8::1")).names
    assert host_allowed(host, names) is fine


@pytest.mark.parametrize("wrong", ["https://example.org", "example.org:80", "*example.org", "a.*", "", "a b", "*.*"])
def test_what_is_no_name(wrong):
    with pytest.raises(UsageError, match="without scheme and port"):
        Settings(hosts=(wrong,))


def test_which_names_a_server_has_by_itself():
    assert Settings().names == LOOPBACK_NAMES
    assert Settings(tokens=(TOKEN,)).names == ("*",)
    assert "talk.example.org" in Settings(origins=("https://talk.example.org:8443", "null")).names
    assert "evil.example" not in Settings(tokens=(TOKEN,), hosts=("a.example",)).names
    assert host_allowed("anything", Settings(hosts=("*",)).names)


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:0DB8:0:0::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "hidden", False),
        ("", "", True),
    ],
)
def test_addresses_that_are_one(first, second, one):
    door = Admission(places=5, queue=0, per_address=1)
    door.arrive(first)
    assert (door.arrive(second) is Refusal.TOO_MANY) is one
