"""What products of a training are computed in: a choice of the run, kept when it goes on."""

import csv
import json

import attrs
import pytest
import torch
from language_model_support import CONFIG, QUICK, some_data, train

from duplex.errors import TrainingError, UsageError
from duplex.training import CodecSettings
from duplex.training.language_model import LanguageModelSettings, LoraSettings, predict_training

WIDE = attrs.evolve(QUICK, precision="float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


def first_losses(out):
    with (out / "losses.csv").open() as file:
        return float(next(csv.DictReader(file))["text"])


def test_products_are_in_what_was_chosen(data, tmp_path, monkeypatch):
    seen, linear = [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: seen.append(linear(*given)) or seen[-1])
    for settings in (WIDE, QUICK):
        train(data, tmp_path / settings.precision, attrs.evolve(settings, steps=1))
        trained = {each.dtype for each in seen if each.requires_grad}
        assert trained == {getattr(torch, settings.precision)}
        seen.clear()
    narrow, wide = first_losses(tmp_path / "bfloat16"), first_losses(tmp_path / "float32")
    assert 0 < abs(narrow - wide) < 0.1


def test_a_run_keeps_it(data, tmp_path):
    train(data, tmp_path / "run", WIDE)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["precision"] == "float32"
    train(data, tmp_path / "run", attrs.evolve(WIDE, steps=WIDE.steps + 1))
    with pytest.raises(TrainingError, match="precision"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, steps=WIDE.steps + 2))


def test_the_default_is_that_of_runs_before_there_was_a_choice():
    assert "precision" not in LanguageModelSettings().as_json()
    assert "precision" not in CodecSettings().as_json()
    assert CodecSettings(precision="float32").as_json()["precision"] == "float32"


def test_wider_products_take_more_memory():
    longer = attrs.evolve(QUICK, frames=400)
    narrow, wide = (predict_training(CONFIG, each) for each in (longer, attrs.evolve(longer, precision="float32")))
    assert narrow.batch < wide.batch
    assert (narrow.model, narrow.optimizer) == (wide.model, wide.optimizer)


@pytest.mark.parametrize("base", ["bfloat16", "int8"])
def test_a_narrow_base_has_narrow_products(base):
    with pytest.raises(UsageError, match="--base float32"):
        LanguageModelSettings.fine_tuning("tiny", LoraSettings(base=base), precision="float32")
    LanguageModelSettings.fine_tuning("tiny", LoraSettings(base="float32"), precision="float32")
