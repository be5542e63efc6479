"""A cluster with a certificate: placing, calls, metrics and the page over TLS, from the door to the replica."""

import json
import shutil
import urllib.request

import anyio
import pytest
from fleet_support import fleet
from tls_support import made_certificate, trusting
from websockets.sync.client import connect

import duplex
from duplex.errors import ServerError
from duplex.events import EndReason
from duplex.server.certificate import self_signed_certificate, unnamed_addresses
from duplex.transports import wire
from server_support import for_threads, tone

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]
ALICE = "a-token-of-alice"
TOKENS = {"tokens": (f"alice:{ALICE}",)}
BEARER = {"Authorization": f"Bearer {ALICE}"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return made_certificate(tmp_path_factory.mktemp("tls"))


def asked(door, path, trust, method="GET"):
    """Return the headers and the text of an answer."""
    request = urllib.request.Request(door.url(path, "https"), method=method, headers=BEARER)  # noqa: S310 -- it is https
    with urllib.request.urlopen(request, timeout=10, context=trust) as answer:  # noqa: S310
        return answer.headers, answer.read().decode()


async def test_a_caller_is_placed_and_heard_over_tls(models, tls):
    trust = trusting(tls[0])
    with fleet(models(), models(), tls=tls, **TOKENS) as (_, door):
        async with duplex.connect(door.url("", "https"), token=ALICE, ssl_context=trust) as conversation:
            with anyio.fail_after(20):
                events = [event async for event in conversation.run(tone(0.2))]
        assert events[-1].reason is EndReason.FINISHED
        with pytest.raises(ServerError, match="certificate"):
            async with duplex.connect(door.url("", "https"), token=ALICE):
                pass


def test_addresses_that_a_certificate_has_not_are_told(tls, tmp_path):
    """A replica is reached by its machine's address, for which the certificate must be good."""
    assert unnamed_addresses(tls[0], ["10.0.0.5", "127.0.0.1", "::1"]) == ["10.0.0.5", "::1"]
    made, _ = self_signed_certificate(tmp_path, "10.0.0.5")
    assert unnamed_addresses(made, ["10.0.0.5", "127.0.0.1", "::1"]) == []
    (tmp_path / "none.pem").write_text("no certificate")
    assert unnamed_addresses(tmp_path / "none.pem", ["10.0.0.5"]) == ["10.0.0.5"]


def test_what_the_door_tells_is_told_over_tls(models, tls):
    trust = trusting(tls[0])
    with fleet(models(), tls=tls, **TOKENS) as (cluster, door):
        (place,) = json.loads(asked(door, "/api/place", trust, "POST")[1])["places"]
        assert place["url"] == cluster.replicas[0].server.url
        assert place["url"].startswith("https://127.0.0.1:")
        assert 'duplex_places{model="fake",replica="replica-0"}' in asked(door, "/metrics", trust)[1]
        policy = asked(door, "/", trust)[0]["content-security-policy"]
        assert "connect-src 'self' https://127.0.0.1:* wss://127.0.0.1:*;" in policy


def test_a_client_that_follows_redirections_stays_on_tls(models, tls):
    trust = trusting(tls[0])
    with fleet(models(), tls=tls, **TOKENS) as (cluster, door):
        address = door.url("/api/chat?format=pcm", "wss")
        with connect(address, additional_headers=BEARER, compression=None, ssl=for_threads(trust)) as caller:
            assert caller.recv(timeout=10)[0] == wire.Kind.HANDSHAKE
            assert caller.remote_address[1] == cluster.replicas[0].port


async def test_a_call_moves_over_tls(models, tls, tmp_path):
    notes = []
    with fleet(models(), models(), tls=tls, state_store=tmp_path / "states", **TOKENS) as (cluster, door):
        connected = duplex.connect(
            door.url("", "https"), token=ALICE, ssl_context=trusting(tls[0]), interrupted=notes.append
        )
        async with connected as conversation, anyio.create_task_group() as tasks:

            async def talk():
                await conversation.send(tone(0.8))
                await anyio.sleep(0.6)
                going = next(each for each in cluster.replicas if each.server.load()[0])
                await anyio.to_thread.run_sync(going.stop)
                await conversation.send(tone(0.4))
                await conversation.finish()

            tasks.start_soon(talk)
            with anyio.fail_after(30):
                events = [event async for event in conversation]
    assert notes == [True, False]
    assert events[-1].reason is EndReason.FINISHED
