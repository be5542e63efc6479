"""Live conversations stay on time: what silence stands in for, what is dropped, what is skipped."""

import random

import pytest

from duplex.engine.pacing import LiveClock, frames_to_skip

RATE, FRAME = 24000, 1920


def clock():
    return LiveClock(RATE, FRAME, began=100.0)


def test_a_sender_s_fast_clock_after_a_mute_drops_nothing_for_a_long_time():
    live = clock()
    live.silence_due(110.0)
    for n in range(1, 1000):
        assert live.arrived(FRAME, 110.0 + n * 0.07999) == 0


def test_audio_at_the_clock_s_pace_is_all_heard():
    live = clock()
    for n in range(1, 100):
        now = 100 + n * 0.08
        assert live.silence_due(now) == (0, 0)
        assert live.arrived(FRAME, now) == 0
    assert live.position == 99 * FRAME


def test_jitter_within_the_patience_costs_nothing():
    live = clock()
    for n, delay in enumerate([0.0, 0.05, 0.079, 0.02, 0.07, 0.0] * 5, 1):
        now = 100 + n * 0.08 + delay
        assert live.silence_due(now) == (0, 0)
        assert live.arrived(FRAME, now) == 0


def test_a_clock_that_is_ahead_from_the_start_drops_nothing():
    """A client may send its first second at once: nothing stood in for it."""
    live = clock()
    assert live.arrived(RATE, 100.0) == 0
    assert live.wait(100.0) == pytest.approx(1.16)


def test_silence_stands_in_after_the_patience():
    live = clock()
    assert live.wait(100.0) == pytest.approx(0.16)
    assert live.silence_due(100.16) == (0, 0)
    assert live.silence_due(100.161) == (0, 1)
    assert live.silence_due(100.161) == (0, 0)
    assert live.wait(100.161) == pytest.approx(0.079)
    # A process that slept for a second catches up at once, in whole frames.
    assert live.silence_due(101.2) == (0, 12)


def test_a_burst_after_a_stall_is_late_as_far_as_silence_stood_in():
    live = clock()
    assert live.silence_due(101.0) == (0, 11)
    stood_in = 11 * FRAME
    # The whole second arrives at once: it ends now, and so much of it as was stood in for is dropped.
    late = live.arrived(RATE, 101.0)
    assert late == stood_in
    assert live.position == RATE


def test_a_packet_is_dropped_whole_or_heard_whole():
    """A fraction would move the cut between frames, and every answer from then on would wait for one more packet."""
    live = clock()
    for n in range(1, 4):
        live.arrived(FRAME, 100.01 + n * 0.08)
    assert live.silence_due(100.41) == (0, 1)
    # The one that was stood in for, and the next, 70 ms ahead of the clock: too little for a whole packet.
    assert live.arrived(FRAME, 100.41) == 0
    assert live.arrived(FRAME, 100.41) == 0
    assert live.debt == round(0.07 * RATE)
    # The rest of what stood in makes up for a packet.
    assert live.arrived(FRAME, 100.42) == FRAME
    assert live.debt == 0
    for n in range(1, 50):
        assert live.arrived(FRAME, 100.42 + n * 0.08) == 0


def test_a_debt_is_paid_by_later_packets():
    live = clock()
    live.debt = FRAME - 1
    assert live.arrived(FRAME, 100.08) == 0
    live.debt = FRAME + 480
    assert live.arrived(480, 100.1) == 480, "as much as a packet has"
    assert live.arrived(100 * 480, 102.0) == FRAME, "of a long one, whole frames"
    assert live.debt == 0


@pytest.mark.parametrize("packet", [240, 480, 960, FRAME, 2 * FRAME])
def test_whatever_the_network_does_the_cut_between_frames_stays(packet):
    rng, live = random.Random(packet), clock()  # noqa: S311 -- of a test
    late, arrival, dropped = 0.0, 100.0, 0
    for n in range(1, 5000):
        late = rng.uniform(0, 1.5) if rng.random() < 0.01 else max(0.0, late - packet / RATE)
        arrival = max(arrival, 100 + n * packet / RATE + late)
        while live.wait(arrival) == 0.0 and live.silence_due(arrival) != (0, 0):
            pass
        cut = live.arrived(packet, arrival)
        assert cut % min(packet, FRAME) == 0
        assert live.debt < min(packet, FRAME)
        dropped += cut
    assert dropped > RATE


def test_a_mute_that_ends_is_heard():
    live = clock()
    for n in range(1, 126):
        live.silence_due(100 + n * 0.08)
    for n in range(126, 200):
        now = 100 + n * 0.08
        assert live.arrived(FRAME, now) == 0
        assert live.silence_due(now) == (0, 0)


def test_no_more_is_dropped_than_stood_in():
    live = clock()
    stood_in = live.silence_due(100.3)[1] * FRAME
    assert live.arrived(10 * RATE, 100.3) == stood_in
    assert live.arrived(RATE, 100.3) == 0


def test_of_a_long_gap_all_but_a_second_is_passed_over():
    live = clock()
    passed, silent = live.silence_due(3700.0)
    assert silent == 12
    assert (passed + silent) * FRAME == live.position
    assert live.position >= 3599.84 * RATE
    assert live.silence_due(3700.0) == (0, 0)


def test_what_stood_in_is_forgotten_when_audio_has_kept_pace_for_a_second():
    live = clock()
    live.silence_due(110.0)
    for n in range(1, 15):
        assert live.arrived(FRAME, 110.0 + n * 0.08) == 0
    assert live.stood_in == 0
    assert live.arrived(RATE, 111.12) == 0


@pytest.mark.parametrize(
    ("silent", "excess", "expected"),
    [
        ([], 0, []),
        ([False] * 4, 2, [0, 1]),
        ([False, True, False, True], 2, [1, 3]),
        ([False, True, False, True], 3, [0, 1, 3]),
        ([True] * 3, 1, [0]),
        ([False] * 3, 3, [0, 1, 2]),
    ],
)
def test_skips(silent, excess, expected):
    assert frames_to_skip(silent, excess) == expected
