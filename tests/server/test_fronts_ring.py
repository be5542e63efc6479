"""The ring that two processes share, and what its records mean."""

import random
import socket
import subprocess
import sys

import numpy as np
import pytest

from duplex.engine.outcomes import Exported, Failed, Finished, Skipped
from duplex.errors import ModelError
from duplex.frame_model import Frame
from duplex.server.fronts.plan import SharedMemory
from duplex.server.fronts.records import Given, read_given, told_shape, write_given
from duplex.server.fronts.ring import RingError, RingReader, RingShape, RingWriter
from duplex.testing import FakeFrameModel

SHAPE = RingShape(records=5, numbers=2, samples=3)
OTHER_PROCESS = """
import socket, sys
import numpy as np
from duplex.server.fronts.plan import SharedMemory
from duplex.server.fronts.ring import RingShape, RingWriter

shape = RingShape(records=5, numbers=2, samples=3)
ring = RingWriter(SharedMemory(int(sys.argv[1]), shape.size).memory, 0, shape)
bell = socket.socket(fileno=int(sys.argv[2]))
for number in range(2000):
    while not ring.write((number, -number), np.full(3, number, np.float32)):
        pass
    bell.send(ring.written.to_bytes(8, "little"))
"""


def ring(shape=SHAPE, offset=0):
    memory = bytearray(offset + shape.size)
    return RingWriter(memory, offset, shape), RingReader(memory, offset, shape)


def samples(number):
    return np.full(3, number, np.float32)


def test_what_is_written_is_read_around_the_end_and_again():
    writer, reader = ring(offset=64)
    count, expected = 0, 0
    choices = random.Random(3)  # noqa: S311 -- a test's
    for _ in range(200):
        for _ in range(choices.randrange(5)):
            count += writer.write((count, 7), samples(count))
        for numbers, read in reader.read(writer.written - choices.randrange(2) * (writer.written > reader.taken)):
            assert numbers == [expected, 7]
            assert (read == expected).all()
            expected += 1
    assert expected > 3 * SHAPE.records


def test_samples_stay_when_their_place_is_written_again():
    writer, reader = ring()
    writer.write((0, 0), samples(1))
    (_, read), *_ = reader.read(1)
    for number in range(SHAPE.records):
        writer.write((0, 0), samples(9 + number))
    assert (read == 1).all()


def test_a_slow_reader_finds_nothing_overwritten():
    writer, reader = ring()
    written = [writer.write((number, 0), samples(number)) for number in range(7)]
    assert written == [True] * 5 + [False] * 2
    assert writer.free == 0
    first = next(reader.read(writer.written))
    assert first[0] == [0, 0]
    assert writer.free == 1
    assert writer.write((5, 0), samples(5))
    assert [numbers[0] for numbers, _ in reader.read(writer.written)] == [1, 2, 3, 4, 5]


def test_a_gap_is_found():
    writer, reader = ring()
    writer.write((1, 0), samples(1))
    with pytest.raises(RingError, match="record 2 is not there"):
        list(reader.read(2))
    with pytest.raises(RingError, match="room for fewer"):
        list(reader.read(7))


def test_a_reader_never_goes_back():
    writer, reader = ring()
    writer.write((1, 0), samples(1))
    assert len(list(reader.read(1))) == 1
    assert list(reader.read(0)) == []


def test_another_process_writes():
    memory, (ours, theirs) = SharedMemory.of(SHAPE.size), socket.socketpair()
    reader = RingReader(memory.memory, 0, SHAPE)
    given = memory.descriptor, theirs.fileno()
    process = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, *map(str, given)], pass_fds=given)
    expected, rest = 0, b""
    with ours, theirs, process:
        while expected < 2000:
            rest += ours.recv(1 << 12)
            whole = len(rest) - len(rest) % 8
            written, rest = int.from_bytes(rest[whole - 8 : whole], "little"), rest[whole:]
            for numbers, read in reader.read(written):
                assert numbers == [expected, -expected]
                assert (read == expected).all()
                expected += 1
    memory.close()
    assert process.returncode == 0


@pytest.mark.parametrize("agent_pcm", [np.full(1920, 0.5, np.float32), None])
@pytest.mark.parametrize("inserted", [False, True])
def test_frames_are_the_same_afterwards(agent_pcm, inserted):
    spec = FakeFrameModel(capacity=2).spec
    memory, shape = bytearray(told_shape(spec).size), told_shape(spec)
    writer, reader = RingWriter(memory, 0, shape), RingReader(memory, 0, shape)
    frame = Frame(
        at=spec.seconds(123_456_789),
        user_pcm=np.linspace(-1, 1, spec.frame_size, dtype=np.float32),
        agent_pcm=agent_pcm,
        text=7,
        agent=np.arange(spec.agent_streams),
        user=np.arange(spec.user_streams) + 3,
        inserted=inserted,
    )
    write_given(writer, spec, Given(5, ready=True, translated=False, consumed=11, outcome=frame))
    (record,) = reader.read(1)
    given = read_given(spec, *record)
    assert (given.seat, given.ready, given.translated, given.consumed) == (5, True, False, 11)
    for name in ("at", "text", "inserted"):
        assert getattr(given.outcome, name) == getattr(frame, name)
    for name in ("user_pcm", "agent", "user"):
        assert (getattr(given.outcome, name) == getattr(frame, name)).all()
    assert (given.outcome.agent_pcm is None) == (agent_pcm is None)
    assert agent_pcm is None or (given.outcome.agent_pcm == agent_pcm).all()


def test_other_outcomes_and_places_of_messages():
    spec = FakeFrameModel(capacity=2).spec
    memory, shape = bytearray(told_shape(spec).size), told_shape(spec)
    writer, reader = RingWriter(memory, 0, shape), RingReader(memory, 0, shape)
    skipped = Skipped(spec.seconds(3), spec.seconds(7), spec.seconds(5))
    outcomes = [(skipped, None), (Finished(), None), (Failed(ModelError("x")), 4), (Exported(ModelError("y")), 5)]
    for outcome, message in outcomes:
        write_given(writer, spec, Given(1, True, False, 0, outcome, message))
    write_given(writer, spec, Given(1, True, True, 9, None))
    read = [read_given(spec, *record) for record in reader.read(5)]
    assert [each.outcome for each in read] == [skipped, Finished(), None, None, None]
    assert [each.message for each in read] == [None, None, 4, 5, None]
    assert read[-1].translated
