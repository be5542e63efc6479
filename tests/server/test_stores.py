"""Where conversations are kept that move."""

import stat
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from duplex.server.handover import folder_store
from duplex.server.handover.folder_store import FolderStore
from duplex.server.handover.stores import FencedError, StateStore, StoreError

pytestmark = pytest.mark.anyio
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "states", max_bytes=1000)


async def test_what_is_kept_is_taken_once(store, tmp_path):
    assert isinstance(store, StateStore)
    await store.put(KEY, 0, b"first", 60)
    await store.put(KEY, 0, b"second", 60)
    assert stat.S_IMODE((tmp_path / "states" / KEY).stat().st_mode) == 0o600
    assert await FolderStore(tmp_path / "states").claim(KEY, 1, 60) == b"second"
    for claimant in (store, FolderStore(tmp_path / "states")):
        with pytest.raises(FencedError):
            await claimant.claim(KEY, 1, 60)
    with pytest.raises(FencedError):
        await store.put(KEY, 0, b"of one who was thought gone", 60)
    assert await store.claim(OTHER, 1, 60) is None


async def test_a_later_generation_goes_on(store):
    await store.put(KEY, 0, b"first", 60)
    assert await store.claim(KEY, 1, 60) == b"first"
    await store.put(KEY, 2, b"second", 60)
    assert await store.claim(KEY, 3, 60) == b"second"
    with pytest.raises(FencedError):
        await store.claim(KEY, 2, 60)


async def test_of_two_who_claim_at_the_same_moment_one_gets_it(store):
    await store.put(KEY, 0, b"it", 60)
    got, refused = [], []

    async def claim():
        try:
            got.append(await store.claim(KEY, 1, 60))
        except FencedError:
            refused.append(True)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(claim)
    assert [each for each in got if each] == [b"it"]
    assert len(refused) == 7


async def test_what_has_ended_is_gone(store, tmp_path):
    await store.put(KEY, 0, b"it", 0)
    assert await store.claim(KEY, 1, 0) is None
    await store.put(OTHER, 0, bytes(900), 0)
    await store.put(KEY, 0, bytes(900), 60)  # which the other one makes room for
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == [KEY]


async def test_no_file_is_removed_that_is_open(store, monkeypatch):
    """As Windows wants it."""
    removed, unlink = [], Path.unlink

    def closed(self, **options):
        removed.append(self.name)
        assert str(self) not in [each.path for each in psutil.Process().open_files()]
        unlink(self, **options)

    await store.put(OTHER, 0, b"it", 0)
    monkeypatch.setattr(Path, "unlink", closed)
    await store.put(KEY, 0, b"it", 60)
    assert OTHER in removed


async def test_it_has_a_bound(store):
    await store.put(KEY, 0, bytes(600), 60)
    with pytest.raises(StoreError, match="full"):
        await store.put(OTHER, 0, bytes(600), 60)
    await store.put(KEY, 0, bytes(900), 60)
    await store.discard(KEY)
    await store.put(OTHER, 0, bytes(600), 60)


@pytest.mark.parametrize("key", ["", "../x", "A" * 64, KEY + "\n"])
async def test_no_key_names_another_file(store, key):
    with pytest.raises(StoreError):
        await store.put(key, 0, b"", 60)


async def test_files_of_others_are_left_alone(tmp_path):
    """The folder may be one that holds something else, as when the wrong one was named."""
    theirs = {
        "letter.txt": b"",
        "photo": bytes(100),
        f"{KEY}.txt": b"text",
        f"{KEY}.first.claimed": b"",
        "x.part": b"12345678",
    }
    for name, data in theirs.items():
        (tmp_path / name).write_bytes(data)
    store = FolderStore(tmp_path, max_bytes=100)
    await store.put(KEY, 0, bytes(90), 60)  # theirs do not count
    assert await store.claim(KEY, 1, 60) == bytes(90)
    assert {name: (tmp_path / name).read_bytes() for name in theirs} == theirs


async def test_claims_of_what_nobody_kept_and_crashes_leave_nothing_for_long(tmp_path, monkeypatch):
    """Whoever may call can make up tokens, each of which is claimed."""
    monkeypatch.setattr(folder_store, "_SWEEP_SECONDS", 0.0)
    store = FolderStore(tmp_path)
    (tmp_path / f"{OTHER}.0123abcd.part").write_bytes(bytes(100))  # of a server that died while it wrote
    for number in range(20):
        assert await store.claim(f"{number:064x}", 1, 0) is None
    await store.claim(KEY, 1, 60)
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.1.claimed"]


async def test_what_is_discarded_while_it_is_put_does_not_come_back(store, tmp_path, monkeypatch):
    """A call that ends is not waited for: the thread goes on that writes what is kept of it."""
    writes, over, replace = threading.Event(), threading.Event(), Path.replace

    def held(self, target):
        writes.set()
        over.wait(20)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.put, KEY, 0, b"of a conversation that is over", 60)
        await anyio.to_thread.run_sync(writes.wait, 20)
        tasks.cancel_scope.cancel()
    await store.discard(KEY)
    over.set()
    with anyio.fail_after(20):
        while list((tmp_path / "states").iterdir()):  # noqa: ASYNC110 -- nobody tells when a thread has ended
            await anyio.sleep(0.01)
    assert await store.claim(KEY, 1, 60) is None
    await store.put(KEY, 2, b"begun later", 60)
    assert await store.claim(KEY, 3, 60) == b"begun later"


async def test_only_the_last_that_were_discarded_are_remembered(store, monkeypatch):
    monkeypatch.setattr(folder_store, "_MOST_DISCARDED", 2)
    for key in (KEY, OTHER, "c" * 64, OTHER):
        await store.discard(key)
    assert list(store._discarded) == ["c" * 64, OTHER]
