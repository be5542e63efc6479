"""Conversations on a server, from asyncio and trio: the same events as on a local model."""

import threading
import time

import anyio
import numpy as np
import pytest

import duplex
from duplex import AgentAudio, AgentText, EndReason, Lag, MemoryTransport, SessionEnded, SessionOptions, SessionStarted
from duplex.conversation import remote_runner
from duplex.errors import ServerError, UsageError
from duplex.events import event_from_dict
from duplex.server import Settings
from duplex.transports import websocket
from server_support import FRAME, running

pytestmark = pytest.mark.anyio
TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's


def ramp(frames, level=0.01):
    """Every frame at a level of its own."""
    return np.repeat(level * np.arange(1, frames + 1, dtype=np.float32), FRAME)


def without_audio(events):
    return [event for event in events if not isinstance(event, AgentAudio)]


async def test_the_same_events_as_on_a_local_model(models):
    model = models()
    pcm = np.round(ramp(12) * 32768) / np.float32(32768)
    options = SessionOptions(seed=5)
    async with duplex.Conversation(model, options=options) as conversation:
        local = [event async for event in conversation.run(pcm)]
    with running(model) as server:
        for _ in range(10):  # again if real time was lost
            async with duplex.connect(server.url("?format=pcm"), options=options) as conversation:
                remote = [event async for event in conversation.run(pcm)]
            if remote[-1].usage == local[-1].usage:
                break
    assert [event.sequence for event in remote] == list(range(len(remote)))
    assert isinstance(remote[0], SessionStarted)
    assert isinstance(remote[-1], SessionEnded)
    assert remote[-1].reason is EndReason.FINISHED
    assert remote[-1].usage == local[-1].usage

    def told(events):
        fields = [event.as_dict() for event in without_audio(events)]
        return [{key: value for key, value in one.items() if key not in ("sequence", "session_id")} for one in fields]

    assert told(remote) == told(local)
    heard, said = (
        np.concatenate([event.pcm for event in events if isinstance(event, AgentAudio)]) for events in (remote, local)
    )
    np.testing.assert_allclose(heard, said, atol=1e-4)


async def test_opus_and_a_transport(models):
    with running(models()) as server:
        transport = MemoryTransport(0.2 * np.sin(np.arange(12 * FRAME) / 10))
        async with duplex.connect(server.url()) as conversation:
            frames = [
                event.pcm async for event in conversation.run(np.zeros(3 * FRAME)) if isinstance(event, AgentAudio)
            ]
        assert len(frames) >= 3, "and silence that has stood in where real time was lost"
        async with duplex.connect(server.url(), transport) as conversation:
            events = [event async for event in conversation]
    assert transport.finished
    usage = events[-1].usage
    assert len(transport.agent_pcm) == usage.frames * FRAME
    assert usage.frames * 0.08 + usage.dropped_seconds >= 12 * 0.08 - 1e-6
    assert np.abs(transport.agent_pcm).max() == pytest.approx(0.1, rel=0.3)
    assert any(isinstance(event, AgentText) for event in events)


async def test_pushed_audio_and_leaving_at_once(models):
    model = models()
    with running(model) as server:
        async with duplex.connect(server.url()) as conversation:
            await conversation.send(np.zeros(FRAME, np.float32))
            async for event in conversation:
                if isinstance(event, AgentAudio):
                    break
        with anyio.fail_after(10):
            while model.free != 1:
                await anyio.sleep(0.01)


async def test_the_queue_is_told(models):
    positions = []
    with running(models()) as server:
        async with duplex.connect(server.url()) as first:
            await anext(first)
            async with duplex.connect(server.url(), queued=positions.append) as second:
                with anyio.fail_after(10):
                    while positions != [1]:
                        await anyio.sleep(0.01)
                await first.send(np.zeros(FRAME, np.float32))
                await first.finish()
                assert isinstance([event async for event in first][-1], SessionEnded)
                assert isinstance(await anext(second), SessionStarted)


async def ended(conversation):
    """Return all events, and what the conversation then raises."""
    events = []
    with pytest.raises(ServerError) as raised:
        async for event in conversation:
            events.append(event)
    return events, str(raised.value)


async def test_a_server_that_is_full(models):
    with running(models(), Settings(queue=0)) as server:
        async with duplex.connect(server.url()) as first:
            await anext(first)
            async with duplex.connect(server.url()) as second:
                events, told = await ended(second)
    assert [type(event) for event in events] == [SessionEnded]
    assert events[0].reason is EndReason.REFUSED
    assert "every place is taken" in told


async def test_a_time_limit(models):
    with running(models(), Settings(session_limit=0.3)) as server:
        async with duplex.connect(server.url()) as conversation:
            events, told = await ended(conversation)
    assert events[-1].reason is EndReason.DISCONNECTED
    assert "time limit" in told


async def test_a_token(models):
    with running(models(), Settings(tokens=(TOKEN,))) as server:
        with pytest.raises(ServerError, match=r"refuses \(401\): show a token"):
            async with duplex.connect(server.url()):
                pass
        async with duplex.connect(server.url(), token=TOKEN) as conversation:
            assert isinstance(await anext(conversation), SessionStarted)


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("http://127.0.0.1:9", ServerError, "is the server running"),
        ("http://nowhere.invalid", ServerError, "cannot be reached"),
        ("ftp://127.0.0.1", UsageError, "^'ftp://127.0.0.1' is no address of a server; give http://host:port"),
        ("nonsense", UsageError, "^'nonsense' is no address"),
        ("localhost:8998", UsageError, "^'localhost:8998' is no address"),
        ("http://", UsageError, "is no address"),
        ("http://[::1", UsageError, "is no address"),
        ("wss://host:99999", UsageError, "is no address"),
    ],
)
async def test_nobody_answers(url, error, told):
    with pytest.raises(error, match=told):
        async with duplex.connect(url):
            pass


async def test_a_page_that_is_no_server(models):
    with running(models()) as server:
        with pytest.raises(ServerError, match="refuses"):
            async with duplex.connect(server.url("/healthz")):
                pass


async def test_a_lost_connection_ends_the_conversation_if_asked(models):
    with running(models()) as server:
        async with duplex.connect(server.url(), on_lost="end") as conversation:
            await anext(conversation)
            await conversation._runner.line.websocket._stream.aclose()
            events, told = await ended(conversation)
    assert events[-1].reason is EndReason.DISCONNECTED
    assert "was lost" in told


async def test_a_lost_connection_begins_a_new_session_if_asked(models):
    failing = threading.Event()

    def on_step(_):
        if failing.is_set():
            failing.clear()
            raise ValueError

    with running(models(on_step=on_step)) as server:
        with pytest.warns(DeprecationWarning, match="goes on by itself"):
            conversation = duplex.connect(server.url(), on_lost="restart")
        async with conversation:
            first = await anext(conversation)
            failing.set()
            started = first
            while started is first or not isinstance(started, SessionStarted):
                started = await anext(conversation)
            assert started.session_id != first.session_id
            await conversation.send(np.zeros(FRAME, np.float32))
            await conversation.finish()
            last = [event async for event in conversation][-1]
    assert last.reason is EndReason.FINISHED


class DeadLine:
    """A connection whose other end has gone without a word."""

    def __init__(self, stream):
        self.aclose = stream.aclose

    async def receive(self):
        await anyio.sleep_forever()

    async def send(self, data):
        pass

    async def send_eof(self):
        pass


class FullLine(DeadLine):
    """The same, and what was sent is not acknowledged: sending waits until the connection is closed."""

    def __init__(self, stream):
        self._stream = stream
        self._closed = anyio.Event()

    async def send(self, _):
        await self._closed.wait()
        raise anyio.ClosedResourceError

    async def aclose(self):
        self._closed.set()
        await self._stream.aclose()


@pytest.mark.parametrize("line", [DeadLine, FullLine])
async def test_a_server_that_is_gone_without_a_word(models, monkeypatch, line):
    monkeypatch.setattr(websocket, "QUIET_SECONDS", 0.2)
    with running(models()) as server:
        async with duplex.connect(server.url(), on_lost="end") as conversation:
            await anext(conversation)
            await conversation.send(ramp(12))
            conversation._runner.line.websocket._stream = line(conversation._runner.line.websocket._stream)
            with anyio.fail_after(10):
                events, told = await ended(conversation)
    assert events[-1].reason is EndReason.DISCONNECTED
    assert "was lost" in told


async def test_a_server_that_has_nothing_to_say_for_a_while(models, monkeypatch):
    monkeypatch.setattr(websocket, "QUIET_SECONDS", 0.3)
    with running(models()) as server:
        async with duplex.connect(server.url()), duplex.connect(server.url()) as second:  # in the queue
            with anyio.move_on_after(1.5) as waited:
                await anext(second)
            assert waited.cancelled_caught


async def events_while(conversation, seconds):
    """Return the events of so many seconds, of which somebody has nothing to say."""
    events = []
    with anyio.move_on_after(seconds):
        async for event in conversation:
            events.append(event)
    return events


@pytest.mark.parametrize("query", ["", "?format=pcm"])
async def test_who_pauses_is_not_taken_to_be_gone(models, monkeypatch, query):
    monkeypatch.setattr(remote_runner, "PING_SECONDS", 0.1)
    with running(models(), Settings(idle_timeout=0.8)) as server:
        async with duplex.connect(server.url(query)) as conversation:
            for _ in range(2):
                await conversation.send(ramp(1))
                assert not [event for event in await events_while(conversation, 2.0) if isinstance(event, SessionEnded)]
            await conversation.finish()
            assert [event async for event in conversation][-1].reason is EndReason.FINISHED


async def test_a_microphone_that_gives_nothing_is_not_taken_to_be_gone(models, monkeypatch):
    class Unplugged(MemoryTransport):
        async def receive(self):
            await anyio.sleep_forever()

    monkeypatch.setattr(remote_runner, "PING_SECONDS", 0.1)
    with running(models(), Settings(idle_timeout=0.8)) as server:
        async with duplex.connect(server.url(), Unplugged(ramp(1), realtime=True)) as conversation:
            assert not [event for event in await events_while(conversation, 2.0) if isinstance(event, SessionEnded)]


async def test_a_new_session_is_told_that_all_has_been_said(models):
    failing = threading.Event()

    def on_step(_):
        if failing.is_set():
            failing.clear()
            time.sleep(0.5)  # by then the caller has finished
            raise ValueError

    with running(models(on_step=on_step), Settings(idle_timeout=0)) as server:
        with pytest.warns(DeprecationWarning, match="goes on by itself"):
            conversation = duplex.connect(server.url(), on_lost="restart")
        async with conversation:
            await anext(conversation)
            failing.set()
            await conversation.send(np.zeros(FRAME, np.float32))
            await conversation.finish()
            with anyio.fail_after(15):
                last = [event async for event in conversation][-1]
    assert last.reason is EndReason.FINISHED


def test_records_come_back():
    usage = duplex.Usage(frames=1, seconds=0.08, dropped_seconds=0.0)
    for event in (
        SessionStarted(sequence=0, at=0.0, session_id="s", model="m", seed=1, sample_rate=24000, frame_duration=0.08),
        AgentText(sequence=1, at=0.0, text=" hi", token=5),
        Lag(sequence=2, at=0.1, behind=0.4, dropped=0.1, side="user"),
        SessionEnded(sequence=3, at=0.1, reason=EndReason.FINISHED, usage=usage),
    ):
        assert event_from_dict(event.as_dict()) == event
    for record in (
        {},
        {"type": "Unknown"},
        {"type": "AgentText"},
        {"type": "SessionEnded", "reason": "x"},
        {"type": []},
    ):
        assert event_from_dict(record) is None
