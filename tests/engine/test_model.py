"""A loaded model as its users see it."""

import inspect

import pytest

import duplex
from duplex.errors import CapacityError, UsageError
from duplex.testing import fake_model


def test_repr_says_what_it_is_and_how_much_is_free():
    with duplex.load("tiny", backend="torch", device="cpu", sessions=2) as model:
        assert (model.backend, model.device, model.dtype) == ("torch", "cpu", "float32")
        assert repr(model) == "<duplex.Model 'tiny': torch, cpu, float32, 2 of 2 sessions free>"
    assert repr(model) == "<duplex.Model 'tiny': torch, cpu, float32, closed>"


def test_repr_of_a_fake():
    with fake_model(capacity=3) as model:
        assert repr(model) == "<duplex.Model 'fake': fake, cpu, float32, 3 of 3 sessions free>"


@pytest.mark.anyio
async def test_load_async_has_the_parameters_of_load():
    assert inspect.signature(duplex.load_async).parameters == inspect.signature(duplex.load).parameters
    with await duplex.load_async("tiny", backend="torch", sessions=2) as model:
        assert model.sessions == 2
    with pytest.raises(TypeError, match=r"^load_async\(\) got an unexpected keyword argument 'devise'$"):
        await duplex.load_async("tiny", devise="cpu")
    with pytest.raises(UsageError, match="sessions is 0"):
        await duplex.load_async("tiny", sessions=0)


def test_a_full_model_is_no_wrong_value():
    assert not issubclass(CapacityError, ValueError | UsageError)
