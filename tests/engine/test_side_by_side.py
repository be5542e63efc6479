"""Memory that several models take side by side: predicted by device, and checked before any of them is loaded."""

import importlib.util
import json

import pytest

from cli_support import DELAY2, SMALL, run
from duplex.backends.shared.memory import Memory, SharedMemory
from duplex.checkpoints import checkpoint
from duplex.engine.loading import predict_memory
from duplex.engine.side_by_side import predict_side_by_side
from duplex.errors import UsageError

GB = 10**9


def memory(weights, session, sessions):
    return Memory(how="dtype='float32'", weights=weights, session=session, sessions=sessions, step=0)


def shared(there, *models):
    return SharedMemory(device="cuda:1", models=models, there=there)


TWO = (("first", memory(4 * GB, GB, 4)), ("second", memory(2 * GB, GB // 2, 4)))


def test_the_sum_and_the_shares():
    told = str(shared(20 * GB, *TWO))
    assert told == "memory on cuda:1: 12.0 GB of 20.0 GB: first 8.0 GB (4 sessions), second 4.0 GB (4 sessions)"
    assert str(shared(None, *TWO)).startswith("memory on cuda:1: 12.0 GB: first")


@pytest.mark.parametrize("there", [None, 12 * GB, 20 * GB])
def test_what_fits(there):
    shared(there, *TWO).check()


@pytest.mark.parametrize(
    ("there", "told"),
    [(12 * GB - 1, "sessions=3 each would fit"), (8 * GB, "sessions=1 each"), (7 * GB, "serve fewer of them")],
)
def test_what_fits_alone_and_not_together(there, told):
    with pytest.raises(UsageError, match=rf"2 models need 12\.0 GB together.*cuda:1 has .*{told}"):
        shared(there, *TWO).check()


def test_each_is_what_is_told_of_it_alone():
    choice = {"backend": "torch", "device": "cpu", "dtype": "float32"}
    given = [(SMALL, {**choice, "sessions": 3}), (DELAY2, {**choice, "dtype": "bfloat16", "sessions": 2})]
    (found,) = predict_side_by_side(given)
    alone = [predict_memory(checkpoint.describe(name), **more) for name, more in given]
    assert [memory for _, memory in found.models] == alone
    assert found.total == sum(memory.total for memory in alone)
    assert found.device == "cpu"


def test_devices_are_told_apart():
    if importlib.util.find_spec("mlx") is None:
        pytest.skip("the MLX backend is not installed")
    given = [(SMALL, {"backend": backend, "device": "cpu"}) for backend in ("torch", "mlx", "torch")]
    assert [len(each.models) for each in predict_side_by_side(given)] == [2, 1]


def test_a_server_refuses_models_that_do_not_fit_together(monkeypatch):
    """Before one is loaded: each of them would fit."""
    choice = {"backend": "torch", "device": "cpu", "sessions": 2}
    (both,) = predict_side_by_side([(SMALL, choice), (DELAY2, choice)])

    def load_model(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("duplex.backends.torch.load_model", load_model)
    monkeypatch.setattr("duplex.backends.torch.memory.available", lambda _: both.total - 1)
    given = ("--backend", "torch", "--device", "cpu", "--sessions", "2", "--port", "0")
    done = run("serve", "--model", SMALL, "--model", DELAY2, *given)
    assert done.status == 2
    assert "2 models need" in done.only_error()
    logged = run("serve", "--model", SMALL, "--model", DELAY2, "--log-format", "json", *given)
    assert logged.status == 2
    assert "2 models need" in logged.err


def test_the_log_has_it_in_numbers():
    """Of two models that cannot be told apart, which shows only when both are loaded."""
    given = ("--backend", "torch", "--device", "cpu", "--sessions", "2", "--port", "0", "--log-format", "json")
    lines = [json.loads(line) for line in run("serve", "--model", SMALL, "--model", SMALL, *given).err.splitlines()]
    told, ended = lines[0], lines[-1]
    (both,) = predict_side_by_side([(SMALL, {"backend": "torch", "device": "cpu", "sessions": 2})] * 2)
    assert (told["message"], told["device"], told["bytes"]) == ("memory", "cpu", both.total)
    assert told["models"] == [{"name": SMALL, "bytes": both.total // 2, "sessions": 2}] * 2
    assert "two models are called" in ended["message"]
