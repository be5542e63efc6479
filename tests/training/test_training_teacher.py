"""A language model that is learnt from beside the dialogues."""

import copy
import csv
import json
import shutil

import attrs
import numpy as np
import pytest
import torch
from language_model_support import CONFIG, MARKS, QUICK, SMALL, model_of, relabelled, some_data, some_dialogue, train
from safetensors.torch import load_file, save_file
from torch.nn import functional

from cli_support import run
from duplex.backends.torch.state import Call
from duplex.errors import CheckpointError, ConfigError, CorpusError, TrainingError, UsageError
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import fingerprint
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.language_model import LanguageModelSettings, LoraSettings, predict_training, training_module
from duplex.training.language_model.teacher import Teacher
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from duplex.training.run_folder import RunFolder

HEARING = attrs.evolve(QUICK, coarse_share=0, unheard_share=0, missed_share=0, semantic_weight=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(RunFolder, "plot", lambda _: None)


def segments(count, first):
    """Return tokens of dialogues, int64 ``[count, 18, 24]``."""
    dialogues = [some_dialogue(24, seed) for seed in range(first, first + count)]
    return torch.tensor(np.stack([np.vstack(list(attrs.astuple(each))) for each in dialogues]))


def learn(module, seeds):
    """Take a step on four dialogues for each of some seeds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for seed in seeds:
        module(segments(4, seed))["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return module


@torch.no_grad()
def words_of(module, tokens):
    """Return the logarithms of how likely a model finds the text's tokens, unaided, ``[batch, frames, vocabulary]``."""
    model = module.model
    inputs = training_module._shift_right(module._apply_delays(tokens[:, :-1]), model.initial)
    return model.text_linear(model.temporal(inputs, Call())).log_softmax(dim=-1)


def test_a_share_of_the_loss_is_towards_it_where_it_is_right():
    taught_by, pupil, tokens = (
        learn(model_of(HEARING), range(0, 240, 4)),
        model_of(attrs.evolve(HEARING, seed=1)),
        segments(2, 900),
    )
    pupil.teacher = Teacher(taught_by.model, 0.6)
    pupil._mask_inputs = lambda inputs, **_: inputs
    losses, text = {name: loss.detach() for name, loss in pupil(tokens).items()}, tokens[:, 0]
    theirs, mine = words_of(taught_by, tokens), words_of(pupil, tokens)
    right = theirs.argmax(dim=-1) == text
    assert 0.1 < right.float().mean() < 1
    exact = -mine.gather(-1, text[..., None])[..., 0]
    towards = -(theirs.exp() * mine).sum(dim=-1)
    assert losses["text"] == pytest.approx(float(exact.mean()), rel=1e-4)  # nothing of it is padding
    wanted = torch.where(right, 0.4 * exact + 0.6 * towards, exact).mean()
    assert losses["taught"] == pytest.approx(float(wanted), rel=1e-4)
    others = losses["codes"] + HEARING.user_text_weight * losses["user_text"]
    assert losses["total"] == pytest.approx(float(losses["taught"] + others), rel=1e-4)
    assert "taught" not in pupil.eval()(tokens)  # validation is on dialogues alone


def test_it_hears_what_is_left_out_for_its_pupil():
    given, model = [], model_of(HEARING).model
    teacher, tokens = Teacher(model, 1.0), segments(2, 0)
    pupil = model_of(attrs.evolve(QUICK, missed_share=1.0))
    pupil.teacher = teacher
    temporal = model.temporal
    model.temporal = lambda inputs, call: given.append(inputs) or temporal(inputs, call)
    pupil(tokens)
    assert torch.equal(given[0][:, 9], functional.pad(tokens[:, 9], (1, -1), value=SMALL["card"]))


def test_it_stays_near_what_it_knew():
    """A model that reads four dialogues over and over has them by heart, and thinks otherwise of others than before."""
    known, tokens, apart = learn(model_of(HEARING), range(0, 240, 4)), segments(8, 9000), {}
    theirs = words_of(known, tokens)
    for name, teacher in (("alone", None), ("taught", Teacher(copy.deepcopy(known.model), 1.0))):
        pupil = learn(LanguageModelTrainingModule(copy.deepcopy(known.model), HEARING, teacher=teacher), [5000] * 40)
        apart[name] = float((theirs.exp() * (theirs - words_of(pupil, tokens))).sum(dim=-1).mean())
    assert apart["taught"] < 0.8 * apart["alone"], apart


def test_a_run(data, tmp_path):
    first = train(data, tmp_path / "first")
    settings = attrs.evolve(QUICK, teacher=str(first), start_from=str(first))
    released = train(data, tmp_path / "run", settings)
    with (tmp_path / "run" / "losses.csv").open() as file:
        assert all(np.isfinite(float(row["taught"])) for row in csv.DictReader(file))
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    assert not [name for name in kept if "teacher" in name]
    assert {each.name for each in released.iterdir()} == {each.name for each in first.iterdir()}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["teacher"] == str(first)
    with pytest.raises(TrainingError, match="teacher"):
        train(data, tmp_path / "run", attrs.evolve(settings, teacher=None))


def test_another_size_may_teach_and_other_streams_may_not(data, tmp_path):
    large = train(data, tmp_path / "large", config=SMALL | {"dim": 64, "max_period": 500})
    told = []  # what predicts the memory must leave nothing behind that has no contents
    train(data, tmp_path / "run", attrs.evolve(QUICK, teacher=str(large)), told=told.append)
    assert told
    shutil.copy(large / "model.safetensors", tmp_path / "kept")
    changed = load_file(tmp_path / "kept")
    save_file({name: tensor * 0.5 for name, tensor in changed.items()}, large / "model.safetensors")
    with pytest.raises(TrainingError, match="its 'teacher' is"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, teacher=str(large)))
    shutil.copy(tmp_path / "kept", large / "model.safetensors")
    other = shutil.copytree(large, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"delays": [0, 0, *[2] * 7, 0, *[2] * 7]}))
    with pytest.raises(ConfigError, match=r"cannot be the teacher: its 'delays' is .*; give a model of"):
        train(data, tmp_path / "wrong", attrs.evolve(QUICK, teacher=str(other)))
    lut = {"n_bins": 2, "dim": 8, "tokenizer": "noop", "possible_values": ["a", "b"]}
    conditioned = {"conditioners": {"mood": {"type": "lut", "lut": lut}}, "fuser": {"sum": ["mood"]}}
    (other / "config.json").write_text(json.dumps(config | conditioned))
    with pytest.raises(ConfigError, match="cannot be the teacher: it wants conditions"):
        train(data, tmp_path / "wrong", attrs.evolve(QUICK, teacher=str(other)))
    with pytest.raises(CheckpointError, match="nowhere"):
        train(data, tmp_path / "wrong", attrs.evolve(QUICK, teacher="nowhere"))
    (tmp_path / TOKENIZER).write_bytes(train_tokenizer(1, MARKS))
    third = relabelled(data, tmp_path / "third", tokenizer=fingerprint(tmp_path / TOKENIZER))
    (third / TOKENIZER).write_bytes((tmp_path / TOKENIZER).read_bytes())
    with pytest.raises(CorpusError, match=r"another tokenizer than that of .*large"):
        train(third, tmp_path / "wrong", attrs.evolve(QUICK, teacher=str(large)))
    assert not (tmp_path / "wrong").exists()


def test_its_memory_is_told():
    alone, taught, wide = (
        predict_training(CONFIG, settings, teacher=teacher)
        for settings, teacher in ((QUICK, None), (QUICK, CONFIG), (attrs.evolve(QUICK, precision="float32"), CONFIG))
    )
    weights = wide.model - alone.model
    assert weights > 100_000
    assert taught.model - alone.model == pytest.approx(weights / 2, rel=0.1)  # in bfloat16, as its products are
    assert taught.optimizer == alone.optimizer


def test_with_an_adapter(data, tmp_path):
    first = train(data, tmp_path / "first")
    settings = LanguageModelSettings.fine_tuning(
        str(first), LoraSettings(rank=2), teacher=str(first), steps=2, frames=16, accumulate=1
    )
    assert list(train(data, tmp_path / "run", settings).glob("lora.safetensors"))


def test_the_command(data, tmp_path):
    nowhere = tmp_path / "none"
    outcome = run("train", "lm", "--data", data, "--out", tmp_path / "run", "--teacher", nowhere)
    assert (outcome.status, outcome.out) == (1, "")
    assert str(nowhere) in outcome.err


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(UsageError, match=r"'teacher_share' is .*; give [01] or"):
        LanguageModelSettings(teacher_share=share)


def test_runs_from_before_go_on():
    assert not {"teacher", "teacher_share"} & set(LanguageModelSettings().as_json())
