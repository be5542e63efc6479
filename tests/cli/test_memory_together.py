"""Memory of several models together, by ``duplex info`` and ``duplex doctor``, and of those that a server has."""

import json

import pytest

import duplex
from cli_support import DELAY2, SMALL, run
from duplex.server import Settings
from duplex.server.served_models import ServedModels

PLACE = ("--backend", "torch", "--device", "cpu")


def test_info_adds_them_up():
    alone = [json.loads(run("info", name, "--json", "--sessions", 3, *PLACE).out) for name in (SMALL, DELAY2)]
    both = json.loads(run("info", SMALL, DELAY2, "--json", "--sessions", 3, *PLACE).out)
    assert both["models"] == alone
    assert len(both["together"]) == len(alone[0]["memory"])
    for number, sums in enumerate(both["together"]):
        each = [told["memory"][number] for told in alone]
        assert sums["how"] == each[0]["how"] == each[1]["how"]
        assert sums["total_bytes"] == each[0]["total_bytes"] + each[1]["total_bytes"]
        assert [told["sessions"] for told in sums["models"]] == [3, 3]


def test_info_tells_it():
    told = run("info", SMALL, DELAY2, *PLACE)
    assert told.status == 0
    assert told.out.count("temporal transformer") == 2
    assert "together, quantize='int8'" in told.out
    assert run("info", SMALL, DELAY2, "--adapter", "any").status == 2


def test_doctor_looks_whether_there_is_as_much(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = [part for name in (SMALL, DELAY2) for part in ("--model", name)]
    found = {each["name"]: each for each in json.loads(run("doctor", "--json", *options).out)["checks"]}
    assert found["memory, cpu"]["state"] == "ok"
    assert "1 session" in found["memory, cpu"]["found"]
    ended = run("doctor", "--json", "--sessions", 60_000, "--model", "tiny", *options)
    found = {each["name"]: each for each in json.loads(ended.out)["checks"]}
    assert (ended.status, found["memory, cpu"]["state"]) == (1, "broken")
    assert "are missing" in found["memory, cpu"]["mend"]
    missing = json.loads(run("doctor", "--json", "--model", "/nowhere/at/all").out)["checks"][-1]
    assert (missing["name"], missing["state"]) == ("models", "broken")


def test_a_server_tells_what_was_predicted():
    place = {"backend": "torch", "device": "cpu", "dtype": "float32"}
    with duplex.load(SMALL, sessions=2, **place) as small, duplex.load(DELAY2, **place) as other:
        (told,) = ServedModels([small, other], Settings()).memory
    assert told["device"] == "cpu"
    assert [each["name"] for each in told["models"]] == ["small", "delay2"]
    assert told["bytes"] == sum(each["bytes"] for each in told["models"])
    predicted = json.loads(run("info", SMALL, "--json", "--sessions", 2, *PLACE).out)["memory"][0]
    assert (predicted["how"], predicted["total_bytes"]) == ("dtype='float32'", told["models"][0]["bytes"])


@pytest.mark.parametrize("names", [(), ("one", "two")])
def test_adapters_count(names, pytestconfig):
    lora = str(pytestconfig.rootpath / "tests" / "data" / "family" / "lora")
    given = dict.fromkeys(names, lora)
    with duplex.load(SMALL, backend="torch", device="cpu", dtype="float32", adapters=given) as model:
        added = model.memory - json.loads(run("info", SMALL, "--json", *PLACE).out)["memory"][0]["total_bytes"]
    numbers = json.loads(run("info", SMALL, "--adapter", lora, "--json").out)["adapter"]["weights"]["total_parameters"]
    assert added == len(names) * 4 * numbers
