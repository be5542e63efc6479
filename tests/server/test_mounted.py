"""The application without its own server: in others' applications, in other servers, and beside pages of others."""

import json

import anyio
import pytest
from calls_support import mounted
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duplex
from duplex.server import Settings, application
from duplex.transports import wire
from server_support import PATIENCE, Caller, ask, get, running, tone, until

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
FRIEND, EVIL = "https://friend.example", "https://evil.example"


def call(server, path="/talk/api/chat", **options):
    return Caller(connect(server.url(path, "ws"), compression=None, **options).__enter__())


def test_it_mounts_into_an_application_of_others(models):
    with mounted(models()) as server:
        assert "<html" in get(server, "/talk/")[2]
        assert json.loads(get(server, "/talk/api/info")[2])["sessions"] == 1
        with call(server) as caller:
            caller.until(wire.Kind.AUDIO)


PAGES = ["/talk", "/talk/", "/talk/?format=pcm", "/talk/index.html", "/talk/api/chat", "/talk/api/chat/"]


@pytest.mark.anyio
@pytest.mark.parametrize("page", PAGES)
async def test_connect_takes_the_address_of_a_mounted_page(models, page):
    with mounted(models()) as server:
        async with duplex.connect(server.url(page), duplex.MemoryTransport(tone(0.2))) as conversation:
            assert [event async for event in conversation][-1].reason is duplex.EndReason.FINISHED


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["", "/", "/api/chat", "/?format=pcm"])
async def test_connect_takes_the_address_of_a_websocket(models, address):
    with running(models()) as server:
        for scheme in ("ws", "http"):
            transport = duplex.MemoryTransport(tone(0.2))
            async with duplex.connect(server.url(address, scheme), transport) as conversation:
                assert [event async for event in conversation][-1].reason is duplex.EndReason.FINISHED


@pytest.mark.anyio
async def test_connect_takes_a_websocket_s_own_path_as_it_is(models):
    with running(models()) as server, pytest.raises(duplex.ServerError, match="no websocket is here"):
        async with duplex.connect(server.url("/voice", "ws")):
            pass


def test_any_host_may_ask_only_where_a_token_is_wanted(models):
    for settings, status in ((None, 400), (Settings(tokens=(TOKEN,)), 200), (Settings(hosts=("*",)), 200)):
        with mounted(models(), settings) as server:
            assert get(server, "/talk/", Host="talk.example.org")[0] == status
            assert get(server, "/talk/", Host="localhost")[0] == 200


def test_a_message_that_is_too_large(models):
    with mounted(models()) as server, call(server) as caller:
        caller.until(wire.Kind.AUDIO)
        caller.websocket.send(bytes([wire.Kind.AUDIO]) + bytes(1 << 16))
        caller.rest()
        assert caller.code in (1009, 1006), "the refusal is lost where it meets what is still being sent"


def test_one_who_is_gone_without_a_word(models):
    """The line stays open, without pings, and nobody says anything."""
    model = models()
    with mounted(model, Settings(idle_timeout=0.5), ws_ping_interval=None) as server, call(server) as caller:
        caller.until(wire.Kind.AUDIO)
        until(lambda: model.free == 1)
        assert caller.end()[0] == 1008


def test_the_loop_is_watched_while_somebody_calls(models):
    def observed():
        text = get(server, "/talk/metrics")[2]
        return float(text.partition("duplex_event_loop_delay_seconds_count ")[2].split()[0])

    with mounted(models(capacity=2)) as server:
        with call(server) as first:
            first.until(wire.Kind.AUDIO)
            with call(server) as second:
                second.until(wire.Kind.AUDIO)
                first.websocket.close()
                before = observed()
                until(lambda: observed() > before + 2)
        assert observed() > 0


def test_a_model_that_has_been_closed(models):
    model = models()
    with mounted(model) as server:
        assert get(server, "/talk/readyz")[0] == 200
        model.close()
        status, _, body = get(server, "/talk/readyz")
        assert (status, json.loads(body)["state"]) == (503, "closed")


# Pages of others


def preflight(server, path, origin, method="POST", wanted="authorization"):
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    return ask(server, "OPTIONS", path, Origin=origin, **headers)


def test_a_page_of_an_allowed_origin_gets_a_ticket(models):
    with running(models(), Settings(tokens=(TOKEN,), origins=(FRIEND,))) as server:
        status, headers, _ = preflight(server, "/api/ticket", FRIEND)
        assert (status, headers["access-control-allow-origin"]) == (200, FRIEND)
        assert "Authorization" in headers["access-control-allow-headers"]
        status, headers, body = ask(server, "POST", "/api/ticket", Origin=FRIEND, Authorization=f"Bearer {TOKEN}")
        assert (status, headers["access-control-allow-origin"]) == (200, FRIEND)
        assert "Origin" in headers["vary"]
        ticket = json.loads(body)["ticket"]
        with server.call(f"?ticket={ticket}", origin=FRIEND) as caller:
            caller.until(wire.Kind.HANDSHAKE)
        status, headers, _ = ask(server, "POST", "/api/ticket", Origin=FRIEND)
        assert (status, headers["access-control-allow-origin"]) == (401, FRIEND), "the page may read why"
        assert get(server, "/api/info", Origin=FRIEND)[1]["access-control-allow-origin"] == FRIEND


@pytest.mark.parametrize("origins", [(), (FRIEND,)])
def test_other_pages_get_none(models, origins):
    with running(models(), Settings(tokens=(TOKEN,), origins=origins)) as server:
        answers = [
            preflight(server, "/api/ticket", EVIL),
            ask(server, "POST", "/api/ticket", Origin=EVIL, Authorization=f"Bearer {TOKEN}"),
            get(server, "/api/info", Origin=EVIL),
        ]
        answers += [get(server, path, Origin=FRIEND) for path in ("/", "/metrics", "/readyz", "/healthz")]
        assert not any("access-control-allow-origin" in headers for _, headers, _ in answers)
        assert answers[0][0] == 400


# Other servers


async def exchange(app, *received, extensions=None, path="/api/chat", refused_codes=(), **headers):
    """Run a websocket's scope through the application, as a server does; return what it sends."""
    sent, messages = [], iter([{"type": "websocket.connect"}, *received])

    async def receive():
        for message in messages:
            return message
        return await anyio.sleep_forever()

    async def send(message):
        if message["type"] == "websocket.close" and message["code"] in refused_codes:
            raise ValueError(message["code"])
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"scheme": "ws", "headers": headers, "client": ("127.0.0.1", 5), "subprotocols": []}
    scope |= {"asgi": {"version": "3.0"}} | ({} if extensions is None else {"extensions": extensions})
    with anyio.fail_after(PATIENCE):
        await app(scope, receive, send)
    return sent


@pytest.mark.anyio
@pytest.mark.parametrize("extensions", [None, {}])
@pytest.mark.parametrize("wrong", [{}, {"origin": EVIL}, {"host": "evil.example"}, {"path": "/elsewhere"}])
async def test_a_server_that_cannot_refuse_with_a_response(models, wrong, extensions):
    app = application(models(), Settings(tokens=(TOKEN,), hosts=("localhost",)))
    sent = await exchange(app, extensions=extensions, **wrong)
    assert [message["type"] for message in sent] == ["websocket.close"]
    sent = await exchange(app, extensions={"websocket.http.response": {}}, **wrong)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]


@pytest.mark.anyio
@pytest.mark.parametrize("received", [{"text": "hello"}, {"bytes": bytes(1 << 17)}, {"bytes": b"\x01RIFF"}])
async def test_a_server_that_closes_with_few_codes(models, received):
    """As daphne, which raises what autobahn says of the others."""
    app, message = application(models()), {"type": "websocket.receive", **received}
    said = (await exchange(app, message))[-1]
    assert said["type"] == "websocket.close"
    assert said["code"] in (1003, 1008, 1009)
    sent = await exchange(app, message, refused_codes=range(1001, 3000))
    assert [one["code"] for one in sent if one["type"] == "websocket.close"] == [said["code"] + 3000]


def test_a_websocket_where_none_is(models, caplog):
    with running(models()) as server:
        for path in ("/", "/healthz", "/main.js", "/api/ticket", "/x"):
            with pytest.raises(InvalidStatus) as raised, connect(server.url(path, "ws")):
                pass
            assert raised.value.response.status_code in (403, 404)
    assert "Traceback" not in caplog.text
