"""Conversations on a model of another process, with both ends of the rings in one: what they hear is the same."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import duplex
from duplex.engine.outcomes import Skipped
from duplex.errors import ClosedError, ModelError, StateError
from duplex.frame_model import Frame
from duplex.server.fronts import served_seats
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.distant_model import DistantModel
from duplex.server.fronts.distant_seats import DistantSeating
from duplex.server.fronts.messages import Link
from duplex.server.fronts.plan import ModelPlan, rings_of, size_of
from duplex.server.fronts.ring import RingReader, RingWriter
from duplex.server.fronts.served_seats import CREDIT, ServedSeats
from duplex.testing import fake_model
from server_support import PATIENCE, tone, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param


class Ends:
    """A front's end and the model's, in one event loop."""

    def __init__(self, model, ours, theirs):
        self.model = model
        self.commands_heard, self.ended = True, threading.Event()
        self._loop = asyncio.get_running_loop()
        memory, bells = bytearray(size_of([model.spec])), socket.socketpair()
        ((commands, told),) = rings_of([model.spec])
        self.front_link, self.link = Link(*ours, self._bring), Link(*theirs, self._obey)
        self.bell = Bell(bells[0], self._hear)
        self.front_bell = Bell(bells[1], lambda _, written: self.seating.hear(written))
        self.served = ServedSeats(
            model.engine,
            RingReader(memory, *commands),
            RingWriter(memory, *told),
            partial(self.bell.ring, 0),
            lambda message: self._loop.call_soon_threadsafe(partial(self.link.tell, "seat", **message)),
            self.ended.set,
        )
        self.seating = DistantSeating(
            self.front_link, 0, model.spec, RingWriter(memory, *commands), RingReader(memory, *told), self.front_bell
        )
        self.distant = DistantModel(ModelPlan.of(model), self.front_link, 0, self.seating)

    def _hear(self, _, written):
        if self.commands_heard:
            self.served.obey(written)

    def _bring(self, _, told):
        self.seating.bring(told)

    def _obey(self, name, told):
        if name == "open":
            return self.served.open(told)
        return self.served.close(told["seat"])

    def close(self):
        self.distant.close()
        for each in (self.front_link, self.link, self.bell, self.front_bell):
            each.close()


@asynccontextmanager
async def distant(**options):
    """A model as a front has it, and what is at the other end."""
    with fake_model(**options) as model:
        streams = [await asyncio.open_unix_connection(sock=end) for end in socket.socketpair()]
        ends = Ends(model, *streams)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends.front_link.run)
            tasks.start_soon(ends.link.run)
            try:
                with ends.served.served():
                    yield ends
            finally:
                ends.close()


async def events_of(model, pcm, **options):
    async with duplex.Conversation(model, **options) as conversation:
        return [event async for event in conversation.run(pcm)]


def told(events):
    """Return what is comparable of events."""
    return [
        (
            event.as_dict()
            if not isinstance(event, duplex.AgentAudio)
            else (event.sequence, event.at, event.pcm.tolist())
        )
        for event in events
        if not isinstance(event, duplex.SessionStarted)
    ]


async def test_a_conversation_is_the_same():
    pcm = np.concatenate([tone(2.0), np.zeros(24000, np.float32), tone(1.03)])
    options = duplex.SessionOptions(seed=3)
    async with distant(capacity=3) as ends:
        with fake_model(capacity=3) as model:
            expected = await events_of(model, pcm, options=options)
        got = await events_of(ends.distant, pcm, options=options)
        assert told(got) == told(expected)
        assert len(got) > 50
        assert ends.model.free == 3


async def test_several_at_once_and_the_places_are_free_afterwards():
    async with distant(capacity=3) as ends:
        lengths = {}

        async def converse(seed):
            lengths[seed] = len(await events_of(ends.distant, tone(3.0), options=duplex.SessionOptions(seed=seed)))

        async with anyio.create_task_group() as tasks:
            for seed in range(3):
                tasks.start_soon(converse, seed)
        assert min(lengths.values()) > 30
        assert ends.model.free == 3


async def test_one_too_many_is_refused():
    async with distant(capacity=1) as ends, duplex.Conversation(ends.distant):
        with pytest.raises(duplex.CapacityError, match="all 1 places"):
            async with duplex.Conversation(ends.distant):
                pass


async def saved(model, pcm, options):
    """Return the state of a conversation that has been going on for a while, but has not heard more than ``pcm``."""
    async with duplex.Conversation(model, options=options) as conversation, anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.send, pcm)
        async for event in conversation:
            if isinstance(event, duplex.AgentAudio):
                return await conversation.export()
    return None


async def test_a_conversation_moves_from_a_front_and_to_one():
    pcm, options = tone(2.0), duplex.SessionOptions(seed=4)
    with fake_model(capacity=2) as model:
        expected = [
            each for each in await events_of(model, pcm, options=options) if isinstance(each, duplex.AgentAudio)
        ]
        async with distant(capacity=2) as ends:
            for here, there in ((ends.distant, model), (model, ends.distant), (ends.distant, ends.distant)):
                async with duplex.Conversation(there, state=await saved(here, pcm[:24000], options)) as conversation:
                    start = round(conversation.resume_at * 24000)
                    rest = [event async for event in conversation.run(pcm[start:])]
                frames = [each for each in rest if isinstance(each, duplex.AgentAudio)]
                assert 0 < len(frames) < len(expected)
                for one, other in zip(frames, expected[-len(frames) :], strict=True):
                    assert one.at == other.at
                    assert (one.pcm == other.pcm).all()
            with pytest.raises(StateError):
                await events_of(ends.distant, pcm, state=b"no state at all")


async def test_what_a_conversation_begins_with_arrives():
    async with distant(capacity=2) as ends:
        spec = ends.model.spec
        history = np.full((spec.streams, 7), 5, np.int64)
        with fake_model(capacity=2) as model:
            expected = await events_of(model, tone(0.5), history=history)
        assert told(await events_of(ends.distant, tone(0.5), history=history)) == told(expected)


async def test_what_a_seat_tells_before_its_front_knows_of_it_is_kept():
    """The ring may be faster than the answer: a prompt that is ready by then stays ready."""
    async with distant(capacity=1) as ends:
        opened = ends.served.open

        def open_late(asked):
            answer = opened(asked)
            seat = ends.served._held[asked["seat"]].seat
            until(lambda: seat.ready)
            ends.served.flush()
            ends.front_bell._hear(0, ends.served._results.written)
            return {**answer, "ready": False}

        ends.served.open = open_late
        history = np.full((ends.model.spec.streams, 7), 5, np.int64)
        with anyio.fail_after(PATIENCE):
            events = await events_of(ends.distant, tone(0.5), history=history)
        assert any(isinstance(event, duplex.AgentAudio) for event in events)


async def test_a_failure_of_the_model_is_that_of_its_conversations():
    def fail(step):
        if step == 5:
            raise ZeroDivisionError("by zero")

    async with distant(capacity=2, on_step=fail) as ends:
        with pytest.raises(ModelError, match="ZeroDivisionError"):
            await events_of(ends.distant, tone(2.0))
        assert ends.model.free == 2


async def test_the_end_of_the_model_while_a_conversation_begins():
    async with distant(capacity=1) as ends:
        reached, goes_on = threading.Event(), threading.Event()

        def prefill(*_):
            reached.set()
            assert goes_on.wait(PATIENCE)

        async def end():
            assert await anyio.to_thread.run_sync(reached.wait, PATIENCE)
            ends.model.engine.close(wait=0.0)
            ends.served.flush()  # as the event loop of the model's process does again and again
            goes_on.set()

        ends.model.frame_model.prefill = prefill
        history = np.full((ends.model.spec.streams, 240), 5, np.int64)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            with anyio.fail_after(PATIENCE), pytest.raises(ClosedError):
                await events_of(ends.distant, tone(0.5), history=history)


async def test_what_is_not_taken_stays_in_the_model():
    async with distant(capacity=1) as ends:
        news = anyio.Event()
        seat = await ends.seating.take_seat(
            duplex.SessionOptions(seed=1).with_defaults(ends.model.defaults), realtime=False, notify=news.set
        )
        for _ in range(40):
            seat.push(tone(0.08))
        await anyio.sleep(0.3)
        assert 0 < len(seat._results) <= CREDIT + ends.model.engine._seats[0].RESULTS_LIMIT
        taken, before = 0, -1
        while taken != before or seat.waiting:
            before = taken
            taken += len(seat.take())
            await anyio.sleep(0.05)
        assert taken == 40
        seat.close()


async def test_frames_that_find_no_room_are_skipped_and_told():
    async with distant(capacity=1) as ends:
        seat = await ends.seating.take_seat(
            duplex.SessionOptions(seed=1).with_defaults(ends.model.defaults), realtime=False, notify=lambda: None
        )
        ends.commands_heard = False  # as when the model's process is held up
        room = ends.seating._commands.shape.records
        for _ in range(room + 30):
            seat.push(tone(0.08))
        assert seat.index == room + 30
        await anyio.lowlevel.checkpoint()
        ends.commands_heard = True
        ends.served.obey(ends.seating._commands.written)
        seat.push(tone(0.08))
        outcomes = []
        with anyio.fail_after(20):
            while sum(isinstance(each, Frame) for each in outcomes) < room + 1:
                outcomes += seat.take()
                await anyio.sleep(0.01)
        (skipped,) = [each for each in outcomes if isinstance(each, Skipped)]
        assert skipped.seconds == pytest.approx(30 * 0.08)
        assert outcomes[-1].at == pytest.approx((room + 30) * 0.08)
        seat.close()


async def test_a_front_that_cannot_be_written_to_is_ended(monkeypatch):
    async with distant(capacity=1) as ends, duplex.Conversation(ends.distant) as conversation:

        def fail(*_):
            raise ZeroDivisionError

        monkeypatch.setattr(served_seats, "write_given", fail)
        await conversation.send(tone(0.2))
        assert await anyio.to_thread.run_sync(ends.ended.wait, 20)
        assert ends.model.engine._thread.is_alive()


async def test_the_end_of_the_models_process_is_the_end_of_conversations():
    async with distant(capacity=1) as ends, duplex.Conversation(ends.distant) as conversation:
        await conversation.send(tone(0.2))
        ends.seating.end()
        with pytest.raises(ModelError, match="has ended"):
            _ = [event async for event in conversation]
