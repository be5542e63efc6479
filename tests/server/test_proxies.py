"""A server behind a real reverse proxy, and what it believes of what proxies say."""

import contextlib
import http.client
import json
import socket

import anyio
import numpy as np
import proxy_support
import pytest
from proxy_support import NAME, caddy, nginx, printed
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duplex
from duplex.errors import UsageError
from duplex.server import Listening, Settings
from duplex.transports import wire
from server_support import FRAME, RATE, Caller, for_threads, get, insecure_context, running, tone

needs_nginx = pytest.mark.skipif(proxy_support.NGINX is None, reason="nginx is not installed (apt-get install nginx)")
needs_caddy = pytest.mark.skipif(proxy_support.CADDY is None, reason="caddy is not installed (apt-get install caddy)")
TRUSTING = {"proxies": ("127.0.0.1",)}


@contextlib.contextmanager
def through(proxy, path="/api/chat", *, address="127.0.0.1", **headers):
    """Call through a proxy from an address, as a page of its does."""
    line = socket.create_connection(("127.0.0.1", proxy.port), source_address=(address, 0))
    url = f"{'wss' if proxy.secure else 'ws'}://{proxy.host}{path}"
    context = for_threads(insecure_context()) if proxy.secure else None
    options = {"origin": proxy.origin, "ssl": context, "compression": None, "additional_headers": headers}
    with line, connect(url, sock=line, **options) as websocket:
        yield Caller(websocket)


def ask(proxy, path, method="GET", **headers):
    """Return status, headers and body of an answer through a proxy."""
    kind = http.client.HTTPSConnection if proxy.secure else http.client.HTTPConnection
    options = {"context": insecure_context()} if proxy.secure else {}
    with contextlib.closing(kind("127.0.0.1", proxy.port, timeout=10, **options)) as connection:
        connection.request(method, path, headers={"Host": proxy.host, **headers})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def hold_a_call(proxy, path, audio_format):
    """Speak for two seconds at the pace of a clock, and hear the answer out."""
    with through(proxy, f"{path}?format={audio_format}&events=full") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(2.0), audio_format=audio_format, pace=FRAME / RATE)
        caller.finish()
        assert caller.end() == (1000, "")
        usage = json.loads(caller.payloads(wire.Kind.METADATA)[-1])["usage"]
        assert usage["frames"] + usage["dropped_seconds"] * RATE / FRAME >= 2.0 * RATE / FRAME - 1e-6
        loud = np.percentile(np.abs(caller.sound(audio_format)), 99)  # Opus overshoots where a lag has cut the tone
        assert loud == pytest.approx(0.1, rel=0.3), "the fake answers at half the level"


def page_of(proxy, path):
    status, _, body = ask(proxy, path)
    assert status == 200
    assert "main.js" in body
    assert ask(proxy, f"{path}main.js")[0] == 200
    assert json.loads(ask(proxy, f"{path}api/info")[2])["sessions"] == 1


@needs_nginx
@pytest.mark.parametrize("audio_format", ["opus", "pcm"])
def test_nginx_as_printed(models, tmp_path, audio_format):
    with (
        running(models(), Settings(hosts=(NAME,)), **TRUSTING) as server,
        nginx(tmp_path, server.port, printed("nginx")[0]) as proxy,
    ):
        page_of(proxy, "/")
        assert ask(proxy, "/metrics")[0] == 404
        hold_a_call(proxy, "/api/chat", audio_format)


@needs_nginx
def test_nginx_below_a_path(models, tmp_path):
    whole, below = printed("nginx")
    start = whole.index("    location / {")
    with (
        running(models(), Settings(hosts=(NAME,)), **TRUSTING) as server,
        nginx(tmp_path, server.port, whole[:start] + below + "}\n") as proxy,
    ):
        assert ask(proxy, "/talk")[1]["Location"].endswith("/talk/")
        page_of(proxy, "/talk/")
        hold_a_call(proxy, "/talk/api/chat", "pcm")


@needs_nginx
def test_nginx_that_leaves_the_path_on(models, tmp_path):
    whole, below = printed("nginx")
    start = whole.index("    location / {")
    kept = whole[:start] + below.replace(":8998/;", ":8998;") + "}\n"
    with (
        running(models(), Settings(hosts=(NAME,)), root_path="/talk/", **TRUSTING) as server,
        nginx(tmp_path, server.port, kept) as proxy,
    ):
        page_of(proxy, "/talk/")
        hold_a_call(proxy, "/talk/api/chat", "pcm")
        assert get(server, "/healthz")[0] == 200, "who asks it directly"
        with server.call() as caller:
            caller.until(wire.Kind.HANDSHAKE)


@needs_nginx
def test_a_call_with_duplex_connect_through_nginx(models, tmp_path):
    whole, below = printed("nginx")

    async def call(url):
        context = insecure_context()
        async with duplex.connect(url, duplex.MemoryTransport(tone(0.5)), ssl_context=context) as conversation:
            return [event async for event in conversation][-1].reason

    start = whole.index("    location / {")
    with (
        running(models(), Settings(hosts=("127.0.0.1",)), **TRUSTING) as server,
        nginx(tmp_path, server.port, whole[:start] + below + "}\n") as proxy,
    ):
        assert anyio.run(call, f"https://127.0.0.1:{proxy.port}/talk/") is duplex.EndReason.FINISHED


@needs_nginx
def test_callers_of_a_proxy_are_told_apart(models, tmp_path):
    """nginx adds the address it sees; what a caller has sent before it is not believed."""
    with (
        running(models(capacity=4), Settings(hosts=(NAME,), per_address=1), **TRUSTING) as server,
        nginx(tmp_path, server.port, printed("nginx")[0]) as proxy,
        through(proxy, address="127.0.0.2") as first,
    ):
        first.until(wire.Kind.HANDSHAKE)
        with through(proxy, address="127.0.0.3") as other:
            other.until(wire.Kind.HANDSHAKE)
        with through(proxy, address="127.0.0.2", **{"X-Forwarded-For": "198.51.100.1"}) as again:
            assert again.end()[0] == 1013


@needs_nginx
def test_a_name_that_was_pointed_at_the_proxy(models, tmp_path):
    with (
        running(models(), Settings(hosts=(NAME,)), **TRUSTING) as server,
        nginx(tmp_path, server.port, printed("nginx")[0]) as proxy,
    ):
        status, _, body = ask(proxy, "/", Host="evil.example")
        assert status == 400
        assert "--allow-host" in body


@needs_nginx
@pytest.mark.parametrize("given", ["$host", "$proxy_host"])
def test_nginx_that_passes_another_host(models, tmp_path, given):
    """The port is not the scheme's, so ``$host`` says too little; ``$proxy_host`` is what nginx does by itself."""
    with (
        running(models(), Settings(hosts=(NAME,)), **TRUSTING) as server,
        nginx(tmp_path, server.port, printed("nginx")[0], replace=[("$http_host", given)]) as proxy,
    ):
        assert ask(proxy, "/")[0] == 200
        with pytest.raises(InvalidStatus) as raised, through(proxy):
            pass
        assert raised.value.response.status_code == 403
        told = json.loads(raised.value.response.body)["error"]
        assert proxy.origin in told
        assert "let a proxy pass Host on" in told
    with (
        running(models(), Settings(hosts=(NAME,), origins=(proxy.origin,)), **TRUSTING, port=server.port),
        nginx(tmp_path, server.port, printed("nginx")[0], replace=[("$http_host", given)], port=proxy.port) as proxy,
        through(proxy) as caller,
    ):
        caller.until(wire.Kind.HANDSHAKE)


@needs_caddy
@pytest.mark.parametrize(("index", "path"), [(0, "/"), (1, "/talk/")])
def test_caddy_as_printed(models, tmp_path, index, path):
    with (
        running(models(), Settings(hosts=(NAME,)), **TRUSTING) as server,
        caddy(tmp_path, server.port, printed("caddyfile")[index]) as proxy,
    ):
        page_of(proxy, path)
        hold_a_call(proxy, f"{path}api/chat", "opus" if index else "pcm")


# Without a proxy


@pytest.mark.parametrize(("proxies", "believed"), [((), False), (("192.0.2.1",), False), (("127.0.0.0/8",), True)])
def test_who_is_believed(models, proxies, believed):
    with running(models(capacity=2), Settings(per_address=1), proxies=proxies) as server, server.call() as first:
        first.until(wire.Kind.HANDSHAKE)
        with server.call(additional_headers={"X-Forwarded-For": "203.0.113.7"}) as second:
            if believed:
                second.until(wire.Kind.HANDSHAKE)
            else:
                assert second.end()[0] == 1013


@pytest.mark.parametrize("wrong", ["*", "proxy.example.org", "10.0.0.1/8", ""])
def test_a_proxy_that_is_no_address(wrong):
    with pytest.raises(UsageError, match="give its address or its network"):
        Listening(proxies=(wrong,))
