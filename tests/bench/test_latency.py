"""Which answer belongs to which frame of the user's, also on a machine that loses real time."""

import math

import anyio
import attrs
import numpy as np
import pytest

from duplex.bench.latency import WARM_UP, Step, Timestamps, measure_latency, pair_answers
from duplex.engine.time_line import PendingFrame
from duplex.testing import FakeFrameModel, fake_model

SPEC = FakeFrameModel().spec
FRAME = SPEC.frame_duration
FRAMES = WARM_UP + 30
ANSWERED = 0.1
"""Seconds from the start of a frame to its answer."""


def kept_time(frames=FRAMES):
    """Return the times of a conversation that never lost real time."""
    starts = [number * FRAME for number in range(frames)]
    ends = [start + FRAME for start in starts]
    return Timestamps(
        frame_starts=starts,
        frame_ends=ends,
        steps=[Step(number, end + 0.001, end + 0.01, heard=True) for number, end in enumerate(ends)],
        audio_times=[number * FRAME + ANSWERED for number in range(SPEC.latency_frames, frames)],
    )


def totals(timestamps):
    return [answer.total for answer in pair_answers(timestamps, SPEC)]


def test_every_frame_after_the_warm_up_is_paired_with_its_answer():
    assert totals(kept_time()) == pytest.approx([ANSWERED] * 30)
    [first, *_] = pair_answers(kept_time(), SPEC)
    assert (first.incoming, first.step) == pytest.approx((0.001, 0.009))
    assert first.outgoing == pytest.approx(ANSWERED - FRAME - 0.01)


@pytest.mark.parametrize("lost", ["silence", "skipped", "lag"])
def test_what_comes_after_real_time_was_lost_is_left_out(lost):
    timestamps, place = kept_time(), WARM_UP + 10
    if lost == "silence":  # stood in; from here on each answer comes a frame sooner than its own would
        timestamps.steps[place] = attrs.evolve(timestamps.steps[place], heard=False)
        sooner = place - SPEC.latency_frames
        timestamps.audio_times[sooner:] = [at - FRAME for at in timestamps.audio_times[sooner:]]
    elif lost == "skipped":
        del timestamps.steps[place]
    else:
        timestamps.lost_at = place * FRAME
    assert totals(timestamps) == pytest.approx([ANSWERED] * 10)


def test_nothing_is_paired_where_real_time_was_lost_at_once():
    timestamps = kept_time()
    timestamps.lost_at = 0.0
    assert not totals(timestamps)


def test_silence_that_stands_in_is_told_from_what_was_said():
    timestamps, noise = Timestamps(), np.random.default_rng(1).normal(size=SPEC.frame_size).astype(np.float32)
    half = noise.copy()
    half[SPEC.frame_size // 2 :] = 0
    frames = [PendingFrame(index, pcm) for index, pcm in enumerate((noise, half, np.zeros_like(noise)))]
    for frame in frames:
        timestamps.stepped(1.0, 2.0, [frame])
    assert [step.heard for step in timestamps.steps] == [True, False, False]
    assert timestamps.lost_at == math.inf


@pytest.mark.slow
def test_a_model_that_is_too_slow_is_told():
    with fake_model(step_seconds=0.3) as model:
        times = anyio.run(measure_latency, model, 20)
    assert times.spoilt > 0
    assert times.measured < 20
    assert times.measured or times.total is None
