"""Waking tasks: from their own loop, from threads, in one go, and whatever becomes of the loop or the task."""

import gc
import threading
import weakref

import anyio
import pytest

from duplex.concurrency.notifiers import (
    Notifier,
    ThreadsafeNotifier,
    create_waiter,
    current_inbox,
    threadsafe_call_soon,
    wake,
)

pytestmark = pytest.mark.anyio


async def test_everybody_who_waits_is_woken():
    notifier, woken = Notifier(), []

    async def wait(number):
        await notifier.wait()
        woken.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        notifier.notify_all()
    assert sorted(woken) == [0, 1, 2]


async def test_one_that_is_cancelled_does_not_take_the_others_along():
    notifier, woken = Notifier(), []

    async def wait():
        await notifier.wait()
        woken.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with anyio.move_on_after(0.05) as patience:
            await notifier.wait()
        assert patience.cancelled_caught
        notifier.notify_all()
    assert woken == [True]
    assert not notifier._waiting


async def test_a_notification_is_for_who_waits_then():
    notifier = Notifier()
    notifier.notify_all()
    with anyio.move_on_after(0.05) as patience:
        await notifier.wait()
    assert patience.cancelled_caught


async def test_waking_twice_or_too_late_is_harmless():
    waiter = create_waiter()
    wake(waiter)
    wake(waiter)
    await waiter
    with anyio.move_on_after(0.01):
        late = create_waiter()
        await late
    wake(late)


async def test_a_thread_s_notifications_before_the_wait_count_once():
    notifier = ThreadsafeNotifier()
    for _ in range(3):
        await anyio.to_thread.run_sync(notifier.notify)
    await notifier.wait()
    with anyio.move_on_after(0.05) as patience:
        await notifier.wait()
    assert patience.cancelled_caught
    await anyio.to_thread.run_sync(notifier.notify)
    await notifier.wait()


async def test_no_notification_is_lost_among_many_threads():
    """Each thread waits for its task's answer before it notifies again, so one that is lost stands for ever."""
    rounds = 200

    async def answer(notifier, heard):
        for _ in range(rounds):
            await notifier.wait()
            heard.release()

    def notify(notifier, heard):
        for _ in range(rounds):
            notifier.notify()
            assert heard.acquire(timeout=30)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                pair = ThreadsafeNotifier(), threading.Semaphore(0)
                tasks.start_soon(answer, *pair)
                tasks.start_soon(anyio.to_thread.run_sync, notify, *pair)


async def test_what_threads_post_meanwhile_comes_in_one_go():
    inbox, order, done = current_inbox(), [], anyio.Event()
    schedule = threadsafe_call_soon()

    def post():
        inbox.post(lambda: order.append("first"))
        schedule(lambda: order.append("another"))
        inbox.post(lambda: order.append("second"))
        schedule(done.set)

    thread = threading.Thread(target=post)
    thread.start()
    thread.join()  # the event loop stands still meanwhile
    await done.wait()
    assert order == ["first", "second", "another"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_is_not_told_and_not_kept(backend):
    async def leave():
        found.extend([current_inbox(), ThreadsafeNotifier()])
        return weakref.ref(anyio.lowlevel.current_token().native_token)

    found = []
    loop = anyio.run(leave, backend=backend)
    inbox, notifier = found
    gc.collect()
    assert loop() is None
    inbox.post(lambda: found.append("told"))
    notifier.notify()
    assert len(found) == 2
    assert not inbox._waiting
