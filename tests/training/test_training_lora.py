"""Training of adapters: what is learnt is small, in the published layout, and the same as in the merged model."""

import json
import wave

import attrs
import numpy as np
import pytest
import torch
from language_model_support import CONFIG, QUICK, SMALL, some_data, some_dialogue, train
from safetensors.torch import load_file

import duplex
from duplex.backends.torch.loading import read_language_model
from duplex.backends.torch.state import Call
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.training.dialogues.shards import fingerprint
from duplex.training.language_model import LanguageModelSettings, LoraSettings
from duplex.training.language_model.initial import StartingPoint
from duplex.training.language_model.memory import predict_training
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from training_support import checkpoint, shorten

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A whole checkpoint that has learnt next to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return train(data, tmp_path_factory.mktemp("base") / "run")


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    shorten(monkeypatch)


def adapting(base, **choices):
    lora = {name: choices.pop(name) for name in ("rank", "scaling", "embeddings", "base_in") if name in choices}
    lora["base"] = lora.pop("base_in", "float32")
    defaults = {"steps": 4, "accumulate": 1, "batch": 2, "frames": 16, "warmup": 1, "learning_rate": 1e-3}
    return LanguageModelSettings.fine_tuning(str(base), LoraSettings(**({"rank": 4} | lora)), **(defaults | choices))


def some_tokens(frames=16):
    return torch.tensor(np.vstack(list(attrs.astuple(some_dialogue(frames)))))[None]


def module_of(settings):
    model = StartingPoint.find(settings.start_from, None).model(settings, CPU)
    made = LanguageModelTrainingModule(model, settings)
    model.prepare()
    return made


def perturb(module):
    """Have adapters add something: at first they add nothing."""
    for name, parameter in module.named_parameters():
        if name.endswith("/up"):
            torch.nn.init.normal_(parameter, std=0.3)
        elif "embeddings" in name:
            parameter.data += 0.1


@torch.no_grad()
def logits_of(model, tokens):
    return model.text_linear(model.temporal(tokens[:, :17], Call()))


@pytest.mark.slow
def test_a_rule_is_learnt_by_adapters_alone(data, base, tmp_path):
    reports, before = [], fingerprint(base / "model.safetensors")
    settings = adapting(
        base, steps=120, batch=4, frames=24, learning_rate=1e-2, rank=8, semantic_weight=1.0, padding_weight=0.3
    )
    folder = train(data, tmp_path / "run", settings, config=None, progress=reports.append)
    first, last = reports[0].losses, reports[-1].losses
    assert last["codes"] < 0.6 * first["codes"]
    assert last["text"] < 0.6 * first["text"]
    assert fingerprint(base / "model.safetensors") == before
    assert set(checkpoint(tmp_path / "run")["model"]) == {
        f"adapters.{name}" for name in module_of(settings).adapters.state_dict()
    }
    assert folder == tmp_path / "run" / "adapter"
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_is_released_is_what_was_trained(base, tmp_path, embeddings):
    """The merged model computes what the model with adapters beside its weights computes."""
    from duplex.training.language_model.export import export_adapters  # noqa: PLC0415 -- it alone needs this

    settings = adapting(base, embeddings=embeddings, rank=3, scaling=1.5)
    module = module_of(settings)
    plain = logits_of(module.model, some_tokens())
    perturb(module)
    for parameter in module.parameters():  # so that rounding the file to bfloat16 changes nothing
        parameter.data = parameter.data.bfloat16().float()
    export_adapters(module.adapters, settings.lora, StartingPoint.find(str(base), None).config, tmp_path / "adapter")
    found = resolve(str(base), adapter=str(tmp_path / "adapter"))
    merged = read_language_model(
        found.language_model, found.weights, dtype=torch.float32, device=CPU, adapter=found.adapter
    )
    made, wanted = logits_of(module.model, some_tokens()), logits_of(merged, some_tokens())
    assert (wanted - plain).abs().max() > 0.1
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)
    same = LanguageModelTrainingModule(merged, attrs.evolve(settings, lora=None)).eval()
    with torch.no_grad():
        ours, theirs = module.eval()(some_tokens()), same(some_tokens())
    assert float(ours["codes"]) == pytest.approx(float(theirs["codes"]), rel=1e-4)


def test_the_published_layout(data, base, tmp_path):
    folder = train(data, tmp_path / "run", adapting(base, embeddings=True), config=None)
    tensors = load_file(folder / "lora.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes["transformer.layers.0.self_attn.in_projs.0.lora_A.weight"] == (4, CONFIG.dim)
    assert shapes["transformer.layers.1.self_attn.out_projs.0.lora_B.weight"] == (CONFIG.dim, 4)
    assert shapes["depformer.layers.1.self_attn.in_projs.7.lora_B.weight"] == (3 * CONFIG.depformer_dim, 4)
    assert shapes["depformer.layers.0.gating.3.linear_in.lora_A.weight"] == (4, CONFIG.depformer_dim)
    assert shapes["text_linear.lora_B.weight"] == (CONFIG.text_card, 4)
    assert shapes["depformer_text_emb.weight"] == (CONFIG.text_card + 1, CONFIG.depformer_dim)
    written = json.loads((folder / "config.json").read_text())
    assert (written["lora"], written["lora_rank"], written["lora_scaling"]) == (True, 4, 2.0)
    assert written["dim"] == CONFIG.dim
    with duplex.load(str(base), adapter=str(folder)) as model:
        assert model.spec.agent_streams == 8


@pytest.mark.parametrize(
    "base_in",
    [pytest.param("float32", marks=pytest.mark.slow), pytest.param("bfloat16", marks=pytest.mark.slow), "int8"],
)
def test_a_base_of_any_numbers(data, base, tmp_path, base_in):
    reports = []
    train(data, tmp_path / "run", adapting(base, base_in=base_in), config=None, progress=reports.append)
    assert np.isfinite(reports[-1].losses["total"])
    assert reports[-1].losses["gradient_all"] > 0


def test_how_it_sounds_is_written(data, base, tmp_path):
    train(data, tmp_path / "run", adapting(base, base_in="bfloat16"), config=None)
    with wave.open(str(tmp_path / "run" / "samples" / "step-000004.wav")) as heard:
        assert (heard.getnchannels(), heard.getframerate()) == (2, 24000)
        assert heard.getnframes() == 16 * 1920
    assert (tmp_path / "run" / "samples" / "step-000004.txt").exists()


def test_layers_that_are_computed_again_have_the_same_gradients(base):
    kept, again = (module_of(adapting(base, checkpointing=value)) for value in (False, True))
    for module in (kept, again):
        torch.manual_seed(0)
        perturb(module)
        module(some_tokens())["total"].backward()
    gradients = zip(kept.parameters(), again.parameters(), strict=True)
    assert all(torch.allclose(one.grad, other.grad, atol=1e-6) for one, other in gradients)


@pytest.mark.slow
def test_batches_of_a_step_are_averaged(data, base, tmp_path):
    """Two batches of one segment are a batch of two, if nothing is drawn and each loss is a mean over as many."""
    reports = []
    settings = adapting(base, batch=1, accumulate=3, steps=3)
    train(data, tmp_path / "run", settings, config=None, progress=reports.append)
    assert reports[-1].speed > 0
    train(data, tmp_path / "run", attrs.evolve(settings, steps=5), config=None)  # a run goes on
    assert checkpoint(tmp_path / "run")["step"] == 5


def test_the_memory_is_predicted(base):
    settings = adapting(base, base_in="int8", embeddings=True)
    told, longer = (predict_training(CONFIG, attrs.evolve(settings, frames=frames)) for frames in (16, 160))
    module = module_of(settings)
    learnt = sum(each.numel() for each in module.parameters()) * 4
    assert told.optimizer == 2 * learnt
    assert told.model >= learnt
    assert told.batch > learnt  # the gradients among it
    assert longer.batch - learnt > 5 * (told.batch - learnt)
    assert longer.model == told.model
    with pytest.raises(UsageError, match=r"has 0\.0 GB free: take a smaller --batch or --frames, a smaller --lora"):
        told.check(1000, "cpu")


def test_what_else_takes_memory(base):
    """The codec and, on a CPU, the process; frozen weights count once, though each product looks at them anew."""
    settings = adapting(base, base_in="bfloat16", rank=1, batch=1, frames=2)
    wide = LanguageModelConfig.from_dict(SMALL | {"dim": 512, "num_heads": 8, "num_layers": 4}, where="here")
    alone = predict_training(wide, settings)
    heard = predict_training(wide, settings, codec=resolve("tiny", parts=("codec",)).mimi)
    assert alone.batch < 0.5 * alone.model
    assert heard.model - alone.model == pytest.approx(24e6, rel=0.1)
    assert heard.programs > 1e8
    assert heard.total == heard.programs + heard.model + heard.optimizer + heard.batch


def test_an_adapter_of_nothing(data, tmp_path):
    with pytest.raises(UsageError, match="needs the model that it is for; give that one with --start-from"):
        attrs.evolve(QUICK, lora=LoraSettings())
    with pytest.raises(UsageError, match="'rank' is 0; give 1 or more"):
        LoraSettings(rank=0)
    assert not list(tmp_path.iterdir())
    del data
