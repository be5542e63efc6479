"""The simulated fleet: what queueing theory says in closed form, and that nobody is lost track of."""

import importlib
import itertools
import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def simulate():
    sys.path.append(BENCHMARKS)
    try:
        fleet, plan = importlib.import_module("cluster_fleet"), importlib.import_module("cluster_plan")
    finally:
        sys.path.remove(BENCHMARKS)

    def run(trace=None, **given):
        return fleet.Fleet(plan.Plan(**given), trace).run()

    return run


def erlang_b(load, places):
    """Return the share of callers who find every place taken, and do not wait."""
    blocked = 1.0
    for count in range(1, places + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(load, places):
    """Return the share of callers who wait, if all do who find every place taken."""
    blocked = erlang_b(load, places)
    return blocked / (1 - load / places * (1 - blocked))


def bounded(load, places, queue):
    """Return the share of callers who find the queue full too (M/M/c/K)."""
    weights = [load**n / math.factorial(n) for n in range(places + 1)]
    weights += [weights[places] * (load / places) ** n for n in range(1, queue + 1)]
    return weights[-1] / sum(weights)


ALONE = {"talk": 10.0, "places": 10, "replicas": 1, "placement": "random", "tries": 1, "seconds": 100_000.0}


@pytest.mark.parametrize("shape", ["exponential", "lognormal", "fixed"])
@pytest.mark.parametrize("load", [5.0, 8.0, 14.0])
def test_without_a_queue_erlang_b_says_who_is_refused(simulate, load, shape):
    """Whatever the lengths are like: it depends on their mean alone."""
    found = simulate(calls=load, shape=shape, **ALONE)
    assert found.refused_share == pytest.approx(erlang_b(load, 10), rel=0.08, abs=0.002)
    assert found.occupancy == pytest.approx(load * (1 - erlang_b(load, 10)) / 10, rel=0.03)


def test_with_an_endless_queue_erlang_c_says_who_waits_and_how_long(simulate):
    found = simulate(calls=8.0, queue=10**6, queue_timeout=1e9, try_seconds=0.0, **ALONE)
    assert found.refused_share == 0
    assert found.waited / found.arrived == pytest.approx(erlang_c(8.0, 10), rel=0.06)
    mean = sum(found.place_seconds) / len(found.place_seconds)
    assert mean == pytest.approx(erlang_c(8.0, 10) * 10 / (10 - 8), rel=0.12)


def test_with_a_short_queue_the_closed_form_of_it_says_who_is_refused(simulate):
    found = simulate(calls=9.0, queue=3, queue_timeout=1e9, **ALONE)
    assert found.refused_share == pytest.approx(bounded(9.0, 10, 3), rel=0.08)


def test_two_who_are_asked_in_turn_are_one_and_two_who_are_not_are_two(simulate):
    two = {**ALONE, "replicas": 2, "calls": 16.0}
    assert simulate(**{**two, "tries": 2}).refused_share == pytest.approx(erlang_b(16.0, 20), rel=0.1)
    assert simulate(**two).refused_share == pytest.approx(erlang_b(8.0, 10), rel=0.1)


def test_a_placer_whose_reports_are_new_loses_nobody_whom_there_is_a_place_for(simulate):
    found = simulate(calls=160.0, talk=10.0, places=10, replicas=20, placement="placer", stale=0.1, seconds=5000.0)
    assert found.refused_share < 2 * erlang_b(160.0, 200) + 0.002


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("placement", ["random", "gateway", "placer"])
def test_everybody_who_came_was_placed_refused_or_tired(simulate, moving, placement):
    found = simulate(
        calls=190.0, talk=20.0, places=10, queue=2, queue_timeout=5.0, placement=placement, moving=moving,
        target=0.7, crashes=2.0, rolls=6.0, drain=30.0, seconds=3000.0, down_after=60.0, stale=0.5,
    )  # fmt: skip
    assert found.crashed > 0
    still_waiting = found.arrived - found.placed - found.refused - found.tired
    assert 0 <= still_waiting <= 2 * found.peak
    assert 0 < found.occupancy <= 1
    assert (found.moved > 0) == (found.rebuilt > 0) == moving
    assert found.lost == 0 if moving else found.lost > 0


def test_calls_that_cannot_move_are_lost_where_the_drain_is_shorter_than_they_are(simulate):
    rolled = {
        "calls": 40.0,
        "talk": 60.0,
        "shape": "fixed",
        "places": 10,
        "replicas": 8,
        "rolls": 10.0,
        "seconds": 3600.0,
    }
    assert simulate(moving=False, drain=61.0, **rolled).lost == 0
    assert simulate(moving=False, drain=20.0, **rolled).lost > 0
    assert simulate(moving=True, **rolled).lost == 0


def test_a_crash_where_there_is_no_other_place_loses_its_calls_after_the_grace(simulate):
    trace = [(0.0, 500.0, 0) for _ in range(5)]
    kept = [
        simulate(
            trace, calls=5.0, places=5, replicas=1, crashes=40.0, grace=grace, start=20.0, seconds=200.0, seed=seed
        )
        for grace, seed in itertools.product((5.0, 60.0), range(3))
    ]
    for_short, for_long = kept[:3], kept[3:]
    assert any(each.lost for each in for_short)
    assert not any(each.rebuilt for each in for_short)
    assert any(each.rebuilt for each in for_long)
    assert not any(each.lost for each in for_long)


def test_the_fleet_follows_a_surge_and_shrinks_again(simulate):
    found = simulate(
        calls=500.0, talk=60.0, target=0.8, surge=2.0, seconds=9000.0, down_after=120.0, start=30.0,
        places=20, filled=True,
    )  # fmt: skip
    mean = found.place_capacity / 20 / 9000.0
    assert found.peak >= 1000 / (20 * 0.8)
    assert 500 / (20 * 0.8) * 0.9 < mean < 0.85 * found.peak
    assert found.lost == 0


def test_the_same_seed_gives_the_same_and_another_does_not(simulate):
    given = {"calls": 50.0, "talk": 10.0, "places": 5, "replicas": 11, "seconds": 500.0}
    assert simulate(**given) == simulate(**given)
    assert simulate(**given) != simulate(seed=1, **given)
