"""The definitions on timelines made by hand, and what holds for all timelines."""

import itertools

import attrs
import numpy as np
import pytest

from duplex.errors import UsageError
from duplex.measuring import Settings, measure_turns
from duplex.measuring.units import inter_pausal_units


def spans(found):
    return [(each.start, each.end) for each in found]


def kinds(found):
    return [(each.kind, each.start, each.end, each.before, each.after) for each in found]


def random_times(seed, count=40):
    """Times on a grid of 100 ms, so that much begins and ends at once."""
    steps = np.random.default_rng(seed).integers(0, 12, count * 2).cumsum() / 10
    return steps.reshape(-1, 2).tolist()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([(1, 2), (2.199, 3)], [(1, 3)]),
        ([(1, 2), (2.2, 3)], [(1, 2), (2.2, 3)]),
        ([(0, 1.0), (1.2, 2)], [(0, 1), (1.2, 2)]),  # 1.2 - 1.0 is a little less than 0.2 in floating point
        ([(3, 4), (1, 3.5)], [(1, 4)]),
        ([(1, 5), (2, 3)], [(1, 5)]),
        ([(1, 1.09)], []),
        ([(1, 1.1)], [(1, 1.1)]),
        ([(1, 1.05), (1.1, 1.15)], [(1, 1.15)]),  # joined first, then long enough
        ([(1, 1)], []),
    ],
)
def test_inter_pausal_units(times, expected):
    assert spans(inter_pausal_units(times, "left")) == expected


def test_a_silence_of_one_speaker_is_a_pause_and_of_two_a_gap():
    found = measure_turns([(1, 2), (3, 4)], [(5, 6)])
    assert kinds(found.silences) == [("pause", 2, 3, "left", "left"), ("gap", 4, 5, "left", "right")]
    assert [attrs.astuple(each) for each in found.transfers] == [(5, 1, "left", "right")]


def test_an_overlap_between_passes_the_floor_and_one_within_does_not():
    found = measure_turns([(1, 4), (7, 9)], [(2, 3), (3.5, 6)])
    assert kinds(found.overlaps) == [("within", 2, 3, "left", "left"), ("between", 3.5, 4, "left", "right")]
    assert [(each.at, each.offset, each.after) for each in found.transfers] == [(3.5, -0.5, "right"), (7, 1, "left")]


def test_the_floor_passes_without_a_gap():
    found = measure_turns([(1, 2)], [(2, 3)])
    assert [attrs.astuple(each) for each in found.transfers] == [(2, 0, "left", "right")]
    assert not found.silences
    assert not found.overlaps


TWO = ("within", 3, 4, "right", "right")


@pytest.mark.parametrize(
    ("left", "right", "silences", "overlaps"),
    [
        # Both begin after a silence: the pause of the one who spoke before it.
        ([(1, 2), (3, 4)], [(3, 5)], [("pause", 2, 3, "left", "left")], [("within", 3, 4, "right", "right")]),
        # Both stop before a silence.
        ([(1, 3), (4, 5)], [(2, 3)], [("pause", 3, 4, "left", "left")], [("within", 2, 3, "left", "left")]),
        # Both stop, and both begin.
        ([(1, 2), (3, 4)], [(1, 2)], [("pause", 2, 3, "left", "left")], [("within", 1, 2, None, None)]),
        ([(1, 2), (3, 4)], [(1, 2), (3, 5)], [("pause", 2, 3, None, None)], [("within", 1, 2, None, None), TWO]),
    ],
)  # fmt: skip
def test_what_begins_or_stops_together(left, right, silences, overlaps):
    found = measure_turns(left, right)
    assert kinds(found.silences) == silences
    assert kinds(found.overlaps) == overlaps


def test_a_short_turn_inside_the_others_is_a_backchannel_candidate():
    found = measure_turns([(0, 3), (3.6, 6)], [(1, 1.5), (3.1, 3.5), (5.5, 6.5)])
    assert spans(found.backchannels) == [(1, 1.5), (3.1, 3.5)]  # in speech and in a pause; the third outlasts
    assert [each.start for each in found.interruptions] == [5.5]


def test_backchannels_have_a_longest_duration():
    assert spans(measure_turns([(0, 5)], [(1, 2)]).backchannels) == [(1, 2)]
    longer = measure_turns([(0, 5)], [(1, 2.01)])
    assert not longer.backchannels
    assert [(each.stop_latency, each.yield_latency) for each in longer.interruptions] == [(4, None)]


def test_latencies_of_an_interruption():
    # Left stops after 0.4 s, begins again for a moment, and gives up 1.3 s after the beginning.
    found = measure_turns([(0, 2.4), (2.9, 3.3), (9, 10)], [(2, 5)])
    (interruption,) = found.interruptions
    assert (interruption.speaker, interruption.interrupted, interruption.start) == ("right", "left", 2)
    assert (interruption.stop_latency, interruption.yield_latency, interruption.yielded) == (0.4, 1.3, True)


def test_an_overlap_at_the_end_of_a_turn_is_no_interruption():
    assert not measure_turns([(0, 2)], [(1.81, 4)]).interruptions
    assert measure_turns([(0, 2)], [(1.8, 4)]).interruptions


def test_going_on_with_a_turn_is_no_interruption():
    # Left comes in while right pauses for 0.5 s, and right goes on.
    found = measure_turns([(1.2, 4)], [(0, 1), (1.5, 6)])
    assert [(each.speaker, each.start) for each in found.interruptions] == []


@pytest.mark.parametrize("seed", range(40))
def test_nothing_depends_on_who_is_first(seed):
    one, other = random_times(seed), random_times(seed + 1000)
    found = measure_turns(one, other, speakers=("a", "b"))
    swapped = measure_turns(other, one, speakers=("b", "a"))
    names = ("units", "turns", "silences", "overlaps", "transfers", "interruptions", "backchannels")
    for name in names:
        assert set(getattr(found, name)) == set(getattr(swapped, name))


@pytest.mark.parametrize("seed", range(40))
def test_silence_speech_and_overlap_fill_the_time(seed):
    found = measure_turns(random_times(seed), random_times(seed + 1000))
    first, last = min(each.start for each in found.units), max(each.end for each in found.units)
    filled = sum(each.duration for each in (*found.units, *found.silences)) - sum(
        each.duration for each in found.overlaps
    )
    assert filled == pytest.approx(last - first, abs=1e-6)
    for left, right in itertools.pairwise(found.silences):
        assert left.end < right.start
    for silence in found.silences:
        assert not any(each.start < silence.end and silence.start < each.end for each in found.units)


@pytest.mark.parametrize("seed", range(10))
def test_later_is_the_same_but_later(seed):
    one, other = np.array(random_times(seed)), np.array(random_times(seed + 1000))
    settings = Settings()
    found = measure_turns(one, other, settings=settings).records()
    later = measure_turns(one + 100, other + 100, settings=settings).records()
    assert len(found) == len(later)
    for row, moved in zip(found, later, strict=True):
        assert row["event"] == moved["event"]
        assert moved["start"] == pytest.approx(row["start"] + 100)
        assert moved["duration"] == pytest.approx(row["duration"])


def test_summary_of_a_dialogue_and_of_none():
    row = measure_turns([(0, 3)], [(4, 5)], duration=10).summary()
    assert (row["duration"], row["first_share"], row["second_share"]) == (10, 0.75, 0.25)
    assert (row["gap_count"], row["gap_total"], row["offset_median"]) == (1, 1, 1)
    nothing = measure_turns([], [], duration=3).summary()
    assert nothing.keys() == row.keys()
    assert (nothing["first_share"], nothing["offset_median"], nothing["pause_count"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1, 2, 3], "shape"),
        ([(1, 2, 3)], "shape"),
        ([(2, 1)], "ends before it starts"),
        ([(-1, 1)], "negative"),
        ([(0, float("nan"))], "not finite"),
        ([("a", "b")], "no numbers"),
    ],
)
def test_times_that_are_none(times, words):
    with pytest.raises(UsageError, match=words):
        measure_turns(times, [])


def test_settings_out_of_range():
    with pytest.raises(UsageError, match="minimum_silence is -1"):
        Settings(minimum_silence=-1)
    with pytest.raises(UsageError, match="level is 3"):
        Settings(level=3)
    with pytest.raises(UsageError, match="detector is 'ear'"):
        Settings(detector="ear")
    with pytest.raises(UsageError, match="duration is 1"):
        measure_turns([(0, 2)], [], duration=1)
    with pytest.raises(UsageError, match="two names that differ"):
        measure_turns([], [], speakers=("a", "a"))
