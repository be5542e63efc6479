"""The metrics of a server with several fronts, while a front ends and another thread exports them."""

import threading

from duplex.server.fronts.whole import Whole

TOLD = [("calls", "Calls.", "counter", [("calls_total", {}, 7.0)])]


def calls(whole):
    return [sample.value for family in whole.registry.collect() for sample in family.samples if family.name == "calls"]


def test_a_front_that_ends_counts_once_whoever_asks_meanwhile():
    running = {0: TOLD}
    whole = Whole([], None, running.values)
    assert calls(whole) == [7.0]
    found = []
    asker = threading.Thread(target=lambda: found.extend(calls(whole)))
    with whole.leaving(TOLD):
        del running[0]
        asker.start()
        asker.join(0.2)
    asker.join(10)
    assert found == [7.0]
    assert calls(whole) == [7.0]
