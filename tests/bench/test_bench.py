"""``duplex bench``: every figure is measured, on the machine at hand."""

import json
import sys

import pytest

from cli_support import DELAY2, SMALL, run, spawn
from duplex.bench import Machine, Percentiles, this_machine
from duplex.bench.cold_start import measure_cold_start
from duplex.errors import DuplexError

QUICK = ("--frames", 3, "--model", SMALL)
MILLISECONDS = 80
"""Of a frame."""


def measured(*arguments):
    outcome = run("bench", *QUICK, "--json", *arguments)
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out)


def test_percentiles():
    times = Percentiles.of([0.001 * number for number in range(1, 101)])
    assert (times.median, times.p95, times.p99) == pytest.approx((50.5, 95.05, 99.01))
    assert times.as_json() == {"median": times.median, "p95": times.p95, "p99": times.p99}


def test_the_machine():
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.versions["duplex"] in str(machine)
    assert Machine(**machine.as_json()) == machine


def test_what_is_measured_by_default():
    told = measured()
    assert told["machine"]["processor"]
    assert told["model"]["name"] == SMALL
    for part, stages in (
        ("mimi", ["encode", "decode"]),
        ("frame", ["total", "encode", "temporal", "depth", "decode"]),
    ):
        for stage in stages:
            times = told[part][f"{stage}_ms"]
            assert 0 <= times["median"] <= times["p95"] <= times["p99"]
    assert told["frame"]["total_ms"]["median"] > 0
    start = told["cold_start"]
    assert start["total_s"] > start["load_s"] > 0
    assert start["memory_bytes"] > 1e6
    assert told["predicted_memory_bytes"] > 0
    assert "sessions" not in told
    assert "latency" not in told


def test_the_codec_alone():
    told = measured("--stage", "mimi")
    assert told["mimi"]["encode_ms"]["median"] > 0
    assert "frame" not in told


def test_a_sweep_is_drawn(tmp_path):
    picture = tmp_path / "times.png"
    told = measured("--stage", "frame", "--sweep", "--sessions", 3, "--plot", picture)
    assert [times["sessions"] for times in told["sessions"]] == [1, 2, 3]
    assert [times["context"] for times in told["contexts"]] == [0, 6, 12, 25]
    # A machine that is too busy is no slower for the test: what is told of it is what was timed.
    in_time = [times["sessions"] for times in told["sessions"] if times["total_ms"]["p99"] < MILLISECONDS]
    assert [times["sessions"] for times in told["sessions"] if times["real_time"]] == in_time
    assert told["real_time_sessions"] == max(in_time, default=0)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("model", [SMALL, DELAY2])
def test_latency(model):
    told = measured("--stage", "frame", "--latency", "--model", model)
    assert [each["way"] for each in told["latency"]] == ["memory", "websocket"]
    for each in told["latency"]:
        assert each["theoretical_ms"] == pytest.approx(80.0 * (3 if model == DELAY2 else 2))
        assert each["frame_ms"] == pytest.approx(80)
        assert each["measured"] + each["spoilt"] > 0
        if each["measured"]:  # a machine that is too busy loses real time
            assert each["total_ms"]["median"] > each["frame_ms"]
            assert each["step_ms"]["median"] > 0
        else:
            assert each["total_ms"] is None


def test_mlx():
    assert measured("--stage", "frame", "--backend", "mlx")["frame"]["temporal_ms"]["median"] > 0


def test_a_table_for_people():
    outcome = run("bench", *QUICK, "--sweep", "--latency")
    assert outcome.status == 0
    for words in ("codec: encode", "temporal", "99 %", "side by side", "latency, websocket", "after a cold start"):
        assert words in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--plot", "x.png"), "--sweep"),
        (("--stage", "mimi", "--latency"), "whole model"),
        (("--original", "nowhere/python"), "nowhere/python cannot be run"),
        (("--original", sys.executable), "is `moshi` installed there"),
        (("--frames", "0"), "--frames"),
    ],
)
def test_what_cannot_be_measured(arguments, told):
    assert told in run("bench", "--stage", "mimi", *QUICK, *arguments).only_error()


def test_what_cannot_be_loaded_is_told_as_everywhere():
    for arguments in (("--sessions", 100_000_000), ("--device", "cuda:99")):
        outcome = run("bench", *QUICK, *arguments)
        assert outcome.status == 2
        assert "starts cold" not in outcome.only_error()


def test_a_process_that_fails():
    with pytest.raises(DuplexError, match=r"starts cold failed: .*nowhere"):
        measure_cold_start({"name": "./nowhere", "backend": "auto", "device": "auto"})


def test_in_a_process_of_its_own():
    """Nothing but figures on standard output, and nothing on the other."""
    outcome = spawn("bench", "--stage", "mimi", *map(str, QUICK), "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out)["mimi"]
