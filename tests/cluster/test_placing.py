"""Which replica a caller is sent to, what replicas learn of each other, and how many there are to be."""

import types

import attrs
import pytest

from duplex.cluster.serving.placing import Placement, Report
from duplex.cluster.serving.registry import Registry
from duplex.cluster.serving.scaling import scale, wanted


def report(name, talking=0, waiting=0, state="ready", places=4):
    url = f"http://10.0.0.1:{sum(name.encode())}"
    return Report(name=name, url=url, places=places, talking=talking, waiting=waiting, state=state)


def placed(*reports, age=0.0, now=100.0):
    placement = Placement()
    placement.note([(age, each) for each in reports], now)
    return placement


def names(chosen):
    return [each.name for each in chosen]


def test_the_emptiest_comes_first_and_three_are_named_at_most():
    placement = placed(report("a", 3), report("b", 1), report("c", 2), report("d", 4, 2))
    assert names(placement.choose(100.0)) == ["b", "c", "a"]


def test_who_was_sent_a_moment_ago_counts_until_the_replica_can_have_told():
    placement = placed(report("a"), report("b", 1))
    assert [names(placement.choose(100.0))[0] for _ in range(4)] == ["a", "a", "b", "a"]
    placement.note([(0.0, report("a", 1)), (0.0, report("b", 1))], 100.5)  # it has not heard of all yet
    assert names(placement.choose(100.5))[0] == "b"
    placement.note([(0.0, report("a", 3)), (0.0, report("b", 2))], 102.0)
    assert names(placement.choose(102.0))[0] == "b"


def test_full_and_leaving_ones_are_left_out_and_nobody_is_sent_to_nowhere():
    placement = placed(report("a", 4, 2, "full"), report("b", state="draining"), report("c", state="stalled"))
    assert placement.choose(100.0) == []
    assert Placement().choose(0.0) == []


def test_one_that_does_not_tell_any_more_is_not_there():
    placement = placed(report("a"), age=0.5)
    assert names(placement.there(102.0)) == ["a"]
    assert placement.there(102.6) == []
    placement.note([], 102.0)
    assert placement.there(102.0) == []


def test_who_comes_back_is_sent_where_the_call_is_be_it_full_or_about_to_go():
    keeper = report("a", 4, 2, "draining")
    placement = placed(keeper, report("b"), report("c", 1))
    assert names(placement.choose(100.0, keeper.url)) == ["a", "b", "c"]
    assert names(placement.choose(100.0, "http://10.0.0.9:1")) == ["b", "c"]
    assert names(placement.choose(104.0, keeper.url)) == []


def test_a_registry_tells_each_of_the_others_that_take_calls():
    now = [0.0]
    registry = Registry(b"secret", lambda: now[0])
    first, second, third = report("a", 2), report("b", 1), report("c", 4, 1)
    for each in (first, second, third):
        registry.report(each)
    assert registry.report(third).others == (second.url, first.url)
    assert registry.report(first).others == (second.url,)
    now[0] = 1.0
    assert [(age, told.name) for age, told in registry.reports()] == [(1.0, "a"), (1.0, "b"), (1.0, "c")]
    now[0] = 4.0
    assert registry.report(first).others == ()
    registry.leave("b")
    assert {told.name for _, told in registry.reports()} == {"a", "c"}
    now[0] = 60.0
    registry.report(attrs.evolve(first, talking=1))
    assert [told.talking for _, told in registry.reports()] == [1]


def test_a_registry_passes_on_how_long_replicas_may_take_to_end():
    registry = Registry(b"secret")
    registry.report(report("b"))
    assert registry.report(report("a")).grace is None
    registry.stop(30.0)
    told = registry.report(report("a"))
    assert (told.grace, told.others) == (30.0, ())
    registry.stop(None)
    assert registry.report(report("a")).grace is None
    assert registry.secret() == b"secret"


@pytest.mark.parametrize(
    ("calls", "replicas"),
    [([0, 0], 0), ([1], 1), ([2.8], 1), ([2.9], 2), ([4, 4], 3), ([4, 4, 4], 5), ([6, 4], 4)],
)
def test_as_many_replicas_as_let_seventy_per_cent_of_places_be_taken(calls, replicas):
    assert wanted(calls, [4.0] * len(calls)) == replicas


def test_ray_serve_is_told_what_is_there_while_nothing_is_known():
    context = types.SimpleNamespace(aggregated_metrics=None, target_num_replicas=3)
    assert scale(context) == (3, {})
    context.aggregated_metrics = {"calls": {"a": 4.0, "b": 4.0}, "places": {"a": 4.0, "b": 4.0}}
    assert scale(context) == (3, {})
    context.aggregated_metrics["calls"] = {"a": 0.0, "b": 0.0}
    assert scale(context) == (1, {})
