"""Conversations in Redis: claimed once, fenced, bounded in size and time; a store that fails says so."""

import asyncio
import contextlib
import gc
import logging

import anyio
import anyio.to_thread
import pytest
from redis import Redis
from redis_support import FULL, needs_redis, redis_server, slow_line

import duplex
from duplex.errors import UsageError
from duplex.server import Listening, Settings, serve
from duplex.server.handover import redis_store
from duplex.server.handover.folder_store import FolderStore
from duplex.server.handover.opening import open_store
from duplex.server.handover.redis_store import RedisStore
from duplex.server.handover.stores import FencedError, StateStore, StoreError
from duplex.server.service import Service
from duplex.testing import fake_model
from server_support import PATIENCE

pytestmark = [needs_redis, pytest.mark.anyio]

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def anyio_backend():
    return "asyncio"  # the server's, and the client's of Redis


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis"), "--maxmemory", "1gb") as running:
        yield running


@pytest.fixture
async def store(server):
    with Redis.from_url(server.url) as client:
        client.flushall()
    made = RedisStore(server.url)
    yield made
    await made.aclose()
    await made.aclose()


def names(server):
    with Redis.from_url(server.url) as client:
        return sorted(name.decode() for name in client.scan_iter())


async def test_it_is_a_store(store):
    assert isinstance(store, StateStore)


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * (1 << 20) + 7])
async def test_what_was_put_is_claimed_once(store, server, size, monkeypatch):
    monkeypatch.setattr(redis_store, "_PART_BYTES", 1 << 20)
    data = bytes(range(256)) * (size // 256 + 1)
    await store.put(KEY, 1, data[:size], 30)
    await store.put(OTHER, 1, b"another", 30)
    assert await store.claim(KEY, 1, 30) == data[:size]
    with pytest.raises(FencedError):
        await store.claim(KEY, 1, 30)
    assert await store.claim(OTHER, 1, 30) == b"another"
    assert names(server) == [f"duplex:{{{KEY}}}:owner", f"duplex:{{{OTHER}}}:owner"]


async def test_the_last_that_was_put_is_kept_and_nothing_of_the_one_before(store, server, monkeypatch):
    monkeypatch.setattr(redis_store, "_PART_BYTES", 4)
    await store.put(KEY, 1, b"a long first one", 30)
    await store.put(KEY, 1, b"second", 30)
    assert len(names(server)) == 3  # its head and two parts
    assert await store.claim(KEY, 1, 30) == b"second"


async def test_of_many_who_claim_at_once_one_is_given_it(store, server):
    await store.put(KEY, 3, b"state", 30)
    others = [RedisStore(server.url) for _ in range(12)]
    results = await asyncio.gather(*(each.claim(KEY, 3, 30) for each in others), return_exceptions=True)
    assert [each for each in results if not isinstance(each, FencedError)] == [b"state"]
    for each in others:
        await each.aclose()


async def test_an_owner_that_was_thought_gone_is_fenced(store, server):
    await store.put(KEY, 1, b"old", 30)
    assert await store.claim(KEY, 2, 30) == b"old"
    for generation in (1, 2):
        with pytest.raises(FencedError):
            await store.put(KEY, generation, b"of the old owner", 30)
        with pytest.raises(FencedError):
            await store.claim(KEY, generation, 30)
    assert names(server) == [f"duplex:{{{KEY}}}:owner"]  # what was refused leaves no parts
    await store.put(KEY, 3, b"new", 30)
    assert await store.claim(KEY, 3, 30) == b"new"


async def test_claiming_nothing_fences_too(store):
    assert await store.claim(KEY, 1, 30) is None
    with pytest.raises(FencedError):
        await store.put(KEY, 1, b"late", 30)


async def test_what_is_kept_ends_and_so_does_who_claimed_it(store, server):
    await store.put(KEY, 1, b"state", 0.05)
    await store.claim(OTHER, 1, 0.05)
    await anyio.sleep(0.2)
    assert names(server) == []
    assert await store.claim(KEY, 1, 30) is None
    await store.put(OTHER, 1, b"again", 30)


async def test_every_name_ends_by_itself(store, server):
    await store.put(KEY, 1, b"state", 30)
    await store.claim(OTHER, 1, 40)
    with Redis.from_url(server.url) as client:
        assert all(0 < client.ttl(name) <= 40 for name in names(server))


async def test_what_is_discarded_is_gone_and_its_owner_remembered(store, server):
    await store.claim(KEY, 1, 30)
    await store.put(KEY, 2, b"state", 30)
    await store.discard(KEY)
    await store.discard(OTHER)
    assert names(server) == [f"duplex:{{{KEY}}}:owner"]
    with pytest.raises(FencedError):
        await store.put(KEY, 1, b"old", 30)


async def test_one_that_is_too_large_is_refused(server):
    store = RedisStore(server.url, most_bytes=10)
    with pytest.raises(StoreError, match="has 11 bytes"):
        await store.put(KEY, 1, bytes(11), 30)
    await store.aclose()


async def test_a_full_store_refuses_what_is_new_and_gives_out_what_it_has(tmp_path):
    with redis_server(tmp_path, *FULL) as server:
        store = RedisStore(server.url)
        await store.put(KEY, 1, b"kept", 30)
        with contextlib.suppress(StoreError):
            for index in range(100):
                await store.put(f"{index:064}", 1, bytes(100_000), 30)
        with pytest.raises(StoreError, match="is full; raise its maxmemory"):
            await store.put(OTHER, 1, bytes(100_000), 30)
        assert await store.claim(KEY, 1, 30) == b"kept"
        with pytest.raises(FencedError):
            await store.claim(KEY, 1, 30)
        await store.aclose()


async def test_a_slow_store_is_left_in_time_and_used_again(store, server):
    await store.put(KEY, 1, b"state", 30)
    async with slow_line(server.port, 0.3) as port:
        slow = RedisStore(f"redis://127.0.0.1:{port}/0")
        with anyio.move_on_after(0.5) as limit:
            await slow.put(OTHER, 1, b"never in time", 30)
        assert limit.cancelled_caught
        # The answers of what was left are not taken for those of what comes next.
        assert await slow.claim(KEY, 1, 30) == b"state"
        await slow.aclose()


async def test_a_store_that_goes_says_so_and_works_when_it_is_back(tmp_path):
    with redis_server(tmp_path, "--maxmemory", "100mb") as server:
        store = RedisStore(server.url)
        await store.put(KEY, 1, b"state", 30)
        server.stop()
        for call in (store.put(KEY, 1, b"x", 30), store.claim(KEY, 1, 30), store.discard(KEY)):
            with pytest.raises(StoreError, match="does not answer"):
                await call
        server.start()
        await store.put(KEY, 1, b"again", 30)
        assert await store.claim(KEY, 1, 30) == b"again"
        await store.aclose()


async def test_a_store_that_never_was_says_so_at_once():
    store = RedisStore("redis://127.0.0.1:1/0")
    with anyio.fail_after(PATIENCE), pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0 does not answer"):
        await store.claim(KEY, 1, 30)
    await store.aclose()


async def test_a_wrong_password_is_told_and_never_printed(tmp_path):
    with redis_server(tmp_path, "--requirepass", "the-right-one") as server:
        store = RedisStore(server.url.replace("//", "//:the-wrong-one@"))
        with pytest.raises(StoreError, match="does not take this password") as told:
            await store.put(KEY, 1, b"x", 30)
        assert "wrong-one" not in str(told.value)
        await store.aclose()
        right = RedisStore(server.url.replace("//", "//:the-right-one@"))
        await right.put(KEY, 1, b"x", 30)
        await right.aclose()


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ((), True),
        (("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), True),
        (("--maxmemory", "100mb"), False),
    ],
)
async def test_a_redis_without_a_bound_or_that_forgets_is_told_once(tmp_path, caplog, options, warned):
    caplog.set_level(logging.WARNING)
    with redis_server(tmp_path, *options) as server:
        store = RedisStore(server.url)
        await store.put(KEY, 1, b"x", 30)
        await store.put(KEY, 1, b"y", 30)
        await store.aclose()
    assert len([each for each in caplog.records if "no bound" in each.message]) == warned


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "redis://", "127.0.0.1:6379", "redis://host:port", "unix://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UsageError, match="give redis://HOST:6379/0"):
        RedisStore(url)


def test_an_address_opens_a_redis_and_anything_else_a_folder(tmp_path):
    assert isinstance(open_store("rediss://:secret@store.example.org:6379/0"), RedisStore)
    assert isinstance(open_store(tmp_path / "calls"), FolderStore)
    assert isinstance(open_store(str(tmp_path / "calls")), FolderStore)


def connections(server):
    with Redis.from_url(server.url) as client:
        return len(client.client_list())


async def until(condition):
    with anyio.fail_after(PATIENCE):
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 -- Redis tells nobody
            await anyio.sleep(0.05)


@pytest.mark.usefixtures("store")
async def test_a_server_that_has_ended_has_no_connection(server):
    """Its program goes on."""
    began = connections(server)

    async def talk(port):
        async with duplex.connect(f"http://127.0.0.1:{port}"):
            await until(lambda: names(server))
            assert connections(server) > began
        tasks.cancel_scope.cancel()

    gc.disable()  # it would close them some day, with a warning
    try:
        with fake_model() as model:
            async with anyio.create_task_group() as tasks:
                settings, where = Settings(state_store=server.url), Listening(port=0)
                await serve(model, settings, where, started=lambda port: tasks.start_soon(talk, port))
        await until(lambda: connections(server) == began)
    finally:
        gc.enable()


async def test_a_store_that_a_program_has_set_is_its_own_to_close(store, server):
    began = connections(server)
    with fake_model() as model:
        service = Service([model], Settings(state_store=server.url))
        service.store = store
        await store.put(KEY, 1, b"state", 30)
        await service.drain(0)
    assert connections(server) == began + 1
