"""Which steps of a model are sampled for traces, whose frames were in them, and how long they say they took."""

from collections import deque

import numpy as np
import pytest

from duplex.engine.seat import PendingFrame
from duplex.frame_model import Frame
from duplex.server.telemetry.steps import StepFinder, StepSampler

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from duplex.server.telemetry.tracing import Tracing


def frame_of(pending):
    empty = np.zeros(1, np.int64)
    return Frame(at=0.08 * pending.index, user_pcm=pending.pcm, agent_pcm=None, text=0, agent=empty, user=empty)


def test_a_step_every_few_seconds_and_the_slow_ones_are_sampled():
    kept = deque(maxlen=100)
    sampler = StepSampler("m", kept.append, seconds=10, slow=0.08)
    for index in range(500):
        now = 100 + 0.08 * index
        waited = 0.3 if 200 <= index < 230 else 0.01
        sampler.stepped(now - 0.005, now, [PendingFrame(index, np.zeros(4, np.float32), since=now - waited)])
    assert [step.frames[0].index for step in kept if not step.slow] == [0, 125, 250, 375]
    slow = [step.frames[0].index for step in kept if step.slow]
    assert slow == [200, 213, 226], "one a second"


def test_each_call_finds_its_own_frame_in_a_step_though_it_asks_before_the_step_is_told():
    kept = deque(maxlen=4)
    mine, other = StepFinder(kept), StepFinder(kept)
    frames = [
        [PendingFrame(index, np.zeros(4, np.float32), since=float(index)) for index in (n, n + 50)] for n in (0, 1)
    ]
    assert mine.find(frame_of(frames[0][0])) is None
    assert other.find(frame_of(frames[0][1])) is None
    StepSampler("m", kept.append, seconds=10, slow=9).stepped(1.0, 2.0, frames[0])
    step, pending = mine.find(frame_of(frames[1][0]))
    assert (pending, step.ended) == (frames[0][0], 2.0)
    assert other.find(frame_of(frames[1][1]))[1] is frames[0][1]
    assert mine.find(frame_of(frames[0][0])) is None, "the step of the frame before was not sampled"


def test_a_step_is_as_long_as_it_took_though_its_thread_waits_between_two_clocks(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    readings = iter(range(1000))
    monkeypatch.setattr("duplex.server.telemetry.tracing.time", Drifting(lambda: next(readings) * 10**9))
    frames = [PendingFrame(0, np.zeros(4, np.float32), since=1.0)]
    Tracing(provider, step_seconds=0.0).observer("m", alone=True).stepped(1.0, 1.01, frames)
    (span,) = exporter.get_finished_spans()
    assert span.end_time - span.start_time == 10_000_000


class Drifting:
    """The module ``time``, whose two clocks are never read at once."""

    def __init__(self, reading):
        self.time_ns = reading

    def monotonic_ns(self):
        return 0
