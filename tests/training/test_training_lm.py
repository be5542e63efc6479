"""Training of the language model: what it is asked for, and runs of a few steps."""

import json
import shutil
import signal
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from language_model_support import CONFIG, MARKS, QUICK, SMALL, model_of, relabelled, some_data, some_dialogue, train
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensor

import duplex
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.products import layouts
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.checkpoints.layout import WEIGHTS
from duplex.errors import CheckpointError, ConfigError, CorpusError, TrainingError, UsageError
from duplex.frame_model import ZERO
from duplex.options import SessionOptions
from duplex.training import trainer
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import fingerprint, write_dialogues
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.language_model import LanguageModelSettings
from duplex.training.language_model.segments import SegmentSampler
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from duplex.training.run_folder import RunFolder
from training_support import checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "LOG_EVERY", 3)
    monkeypatch.setattr(RunFolder, "plot", lambda _: None)


# What is asked for


@torch.no_grad()
def test_training_sees_what_a_conversation_sees():
    """The likelihood of a dialogue is that of the steps of a conversation in which its tokens are known."""
    model, dialogue = model_of().eval(), some_dialogue(12)
    tokens = np.vstack([dialogue.text, dialogue.agent, dialogue.user])
    recorded = []

    def watch(depth, forward=model.model.depth.logits):
        def logits(context, previous, codebook, past):
            made = forward(context, previous, codebook, past)
            recorded.append((codebook, made))
            return made

        depth.logits = logits

    watch(model.model.depth)
    whole = model(torch.tensor(np.vstack([tokens, dialogue.user_text]))[None])
    trained = [made for _, made in recorded]  # [12, card] for each codebook
    recorded.clear()
    state = SlotState.allocate(bind(model.model, "lm", 1), 1, dtype=torch.float32, device=torch.device("cpu"))
    options = SessionOptions(greedy=True, temperature=1.0, text_temperature=1.0, top_k=0, text_top_k=0, seed=0)
    model.model.begin(Call(state, filled=1), options)
    texts = []
    for step in range(12):
        user = None if step == 0 else torch.tensor(tokens[9:, step - 1])[None]
        # A column of the delayed sequences: text and the first codebook of this step, the others of the one before.
        column = np.array([tokens[0, step], tokens[1, step], *(tokens[2:9, step - 1] if step else [-2] * 7)])
        made = model.model(user, Call(state, filled=step + 1), Sampling.of([options]), torch.tensor(column)[None])
        texts.append(made.text_logits[0])
    for codebook in range(8):
        told = torch.cat([made for index, made in recorded if index == codebook])
        rows = slice(1, None) if codebook > 1 else slice(None)  # before step 1, others than the first are not known
        torch.testing.assert_close(told[rows], trained[codebook][rows], atol=2e-4, rtol=1e-3)
    weights = torch.ones(SMALL["text_card"])
    weights[MARKS.padding] = QUICK.padding_weight
    wanted = torch.nn.functional.cross_entropy(torch.stack(texts), torch.tensor(tokens[0]), weights)
    assert float(whole["text"]) == pytest.approx(float(wanted), rel=1e-3)


@torch.no_grad()
def test_losses_are_weighted():
    tokens = torch.tensor(np.vstack([attrs.astuple(some_dialogue(16))[0], *attrs.astuple(some_dialogue(16))[1:]]))[None]
    plain = model_of(attrs.evolve(QUICK, semantic_weight=1.0, user_text_weight=0.0))(tokens)
    semantic = model_of(attrs.evolve(QUICK, semantic_weight=1e9))(tokens)
    first = float(plain["codes"]) * 8 - float(plain["acoustic"]) * 7
    assert float(semantic["codes"]) == pytest.approx(first, rel=1e-3)
    assert float(plain["total"]) == pytest.approx(float(plain["text"] + plain["codes"]), rel=1e-5)


@torch.no_grad()
def test_first_losses_are_those_of_chance():
    tokens = torch.tensor(np.vstack(list(attrs.astuple(some_dialogue(16)))))[None]
    losses = model_of()(tokens)
    assert float(losses["codes"]) < np.log(SMALL["card"]) + 1.5
    assert float(losses["text"]) < np.log(SMALL["text_card"]) + 1.5


@torch.no_grad()
def test_some_of_the_users_codes_are_not_heard():
    settings = attrs.evolve(QUICK, coarse_share=0.5, unheard_share=0.2, missed_share=0.0, unaided_share=0.0)
    model, tokens = model_of(settings), torch.ones(400, 17, 10).long()
    heard = model._mask_inputs(tokens, unaided=False)
    assert torch.equal(heard[:, :9], tokens[:, :9])  # text and agent are what they are
    left_out = (heard[:, 9:] == ZERO).float()
    assert set(heard.unique().tolist()) == {ZERO, 1}
    assert left_out[:, 0].mean() == pytest.approx(0.2, abs=0.02)  # the first codebook is never left out as a whole
    assert left_out[:, 7].mean() == pytest.approx(0.5 * 7 / 8 + (1 - 0.5 * 7 / 8) * 0.2, abs=0.05)
    assert torch.equal(model.eval()._mask_inputs(tokens, unaided=False), tokens)


@torch.no_grad()
def test_some_frames_of_the_user_are_missed():
    settings = attrs.evolve(QUICK, coarse_share=0.0, unheard_share=0.0, missed_share=0.1)
    left_out = (model_of(settings)._mask_inputs(torch.ones(400, 17, 10).long(), unaided=False)[:, 9:] == ZERO).float()
    assert left_out.mean() == pytest.approx(0.1, abs=0.03)
    assert torch.equal(left_out.amin(dim=1), left_out.amax(dim=1))  # all codes of a frame, or none


@torch.no_grad()
def test_its_own_voice_is_not_heard_in_some_stretches():
    model, tokens = model_of(attrs.evolve(QUICK, unaided_share=0.6)), torch.ones(400, 17, 10).long()
    agent = model._mask_inputs(tokens, unaided=False)[:, 1:9]
    unheard = (agent == ZERO).flatten(1).all(dim=1)
    assert torch.equal(unheard, (agent == ZERO).flatten(1).any(dim=1))
    assert unheard.float().mean() == pytest.approx(0.6, abs=0.08)
    never = model_of(attrs.evolve(QUICK, unaided_share=1.0)).model
    assert not any(embedding.weight.any() for embedding in never.emb[:8])
    assert all(embedding.weight.any() for embedding in never.emb[8:])
    unaided = model.eval()._mask_inputs(tokens, unaided=True)
    assert torch.equal(unaided[:, 1:9], torch.full_like(agent, ZERO))
    assert torch.equal(unaided[:, 9:], tokens[:, 9:])


@torch.no_grad()
def test_some_frames_teach_the_codes():
    model = model_of(attrs.evolve(QUICK, depth_share=0.25))
    chosen = model._sample_frames(3, 40).view(3, 10)
    assert len(set(chosen.flatten().tolist())) == 30
    assert (chosen // 40).tolist() == [[row] * 10 for row in range(3)]
    assert model.eval()._sample_frames(1, 40).tolist() == list(range(40))


# Runs


@pytest.mark.slow
def test_a_rule_is_learnt(data, tmp_path):
    reports = []
    settings = attrs.evolve(QUICK, steps=120, batch=4, frames=24, warmup=5, learning_rate=5e-3, semantic_weight=1.0)
    settings = attrs.evolve(settings, coarse_share=0, unheard_share=0, missed_share=0, unaided_share=1, depth_share=1)
    train(data, tmp_path / "run", settings, progress=reports.append)
    first, last = reports[0].losses, reports[-1].losses
    assert first["codes"] > 3
    assert last["codes"] < 0.7 * np.log(4)  # what knowing only how often each code comes would give
    assert last["text"] < 0.7 * np.log(4)
    assert last["validation_codes"] < 0.8 * np.log(4)


def test_what_is_released_runs(data, tmp_path):
    folder = train(data, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    assert config["dim"] == SMALL["dim"]
    with duplex.load(str(folder)) as model:
        assert model.spec.agent_streams == 8
        assert model.spec.text_vocabulary == SMALL["text_card"]
    trained = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    again = LanguageModel(CONFIG).state_dict()
    assert {name.removeprefix("model.") for name in trained if name.startswith("model.")} == set(again)


def test_a_run_goes_on(data, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train(data, whole)
    torch.manual_seed(99)
    compute, steps = LanguageModelTrainingModule.forward, []

    def interrupted(self, tokens, **choices):
        if self.training and not isinstance(tokens, FakeTensor):  # as where memory is predicted
            steps.append(None)
            if len(steps) == 3:
                signal.raise_signal(signal.SIGINT)
        return compute(self, tokens, **choices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModelTrainingModule, "forward", interrupted)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        with pytest.raises(KeyboardInterrupt):
            train(data, halves)
    assert checkpoint(halves)["step"] == 3
    train(data, halves)
    first, second = checkpoint(whole)["model"], checkpoint(halves)["model"]
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    with pytest.raises(TrainingError, match=r"holds another run: its 'settings.batch' is 2, not 3"):
        train(data, halves, attrs.evolve(QUICK, batch=3))
    grown = Path(shutil.copytree(data, tmp_path / "grown"))
    shutil.copy(grown / "dialogues-0000.safetensors", grown / "dialogues-0002.safetensors")
    with pytest.raises(TrainingError, match=r"other data: dialogues-0002\.safetensors is new in .*grown"):
        train(grown, halves)


# Bad input


@pytest.mark.parametrize(
    ("key", "value"), [("text_card", 950), ("card", 1024), ("dep_q", 4), ("existing_text_padding_id", 4)]
)
def test_another_configuration(data, tmp_path, key, value):
    with pytest.raises(CorpusError, match=rf"'{key}' is {value}, but .* has dialogues of"):
        train(data, tmp_path / "run", config=SMALL | {key: value})
    assert not (tmp_path / "run").exists()


def test_no_dialogues(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(CorpusError, match=r"has no dialogues; make them with: duplex train dialogues"):
            train(folder, tmp_path / "run")


def test_dialogues_of_another_kind(data, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in data.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    _, provenance = (stretches := SegmentSampler(data, CONFIG, QUICK)), stretches.provenance
    write_dialogues(mixed / "z.safetensors", [some_dialogue(20)], attrs.evolve(provenance, codec="another"))
    with pytest.raises(CorpusError, match=r"z\.safetensors was made with another codec or tokenizer than"):
        train(mixed, tmp_path / "run")


def test_another_tokenizer_or_codec(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / TOKENIZER).write_bytes(train_tokenizer(1, MARKS))
    with pytest.raises(CorpusError, match="is not the tokenizer that the dialogues were made with"):
        train(other, tmp_path / "run")
    third = relabelled(data, tmp_path / "third", codec="another")
    (third / TOKENIZER).write_bytes((data / TOKENIZER).read_bytes())
    with pytest.raises(CorpusError, match=r"made with another codec than 'tiny'; .* with --codec"):
        train(third, tmp_path / "run")


def test_weights_are_taken_over(data, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "SMALLEST", 1)  # what is trained on was not laid out for steps, however large it is
    first = train(data, tmp_path / "first")
    still = attrs.evolve(QUICK, steps=1, learning_rate=0, start_from=str(first))
    before, after = (load_file(model / WEIGHTS) for model in (first, train(data, tmp_path / "next", still)))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(TrainingError, match="start_from"):
        train(data, tmp_path / "next", attrs.evolve(still, start_from=None))


def test_a_model_to_start_from_that_does_not_fit(data, tmp_path):
    first = attrs.evolve(QUICK, start_from=str(train(data, tmp_path / "first")))
    with pytest.raises(ConfigError, match=r"a model of another configuration; .* with --config"):
        train(data, tmp_path / "run", first, config={**SMALL, "num_layers": SMALL["num_layers"] + 1})
    with pytest.raises(CheckpointError, match="nowhere"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, start_from="nowhere"))
    anew = tmp_path / TOKENIZER
    anew.write_bytes(train_tokenizer(1, MARKS))
    other = relabelled(data, tmp_path / "other", tokenizer=fingerprint(anew))
    (other / TOKENIZER).write_bytes(anew.read_bytes())
    with pytest.raises(CorpusError, match=r"another tokenizer than that of .*--tokenizer"):
        train(other, tmp_path / "run", first)
    assert not list(tmp_path.rglob("run/checkpoint.pt"))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"frames": 1}, {"user_text_weight": float("nan")}, {"seed": -1}]
)
def test_settings_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=rf"{name}.* is"):
        LanguageModelSettings(**wrong)
