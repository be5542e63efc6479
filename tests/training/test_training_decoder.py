"""The training of a decoder alone: what learns and what stays, what discriminators see, and how a run goes on."""

import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import duplex
from cli_support import files_below
from duplex.backends.torch.codec import read_mimi
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import CorpusError, TrainingError
from duplex.training import DecoderSettings, train_decoder
from duplex.training.codec.decoder_module import DecoderModule
from duplex.training.codec.discriminators import (
    StftDiscriminators,
    discriminator_loss,
    feature_distance,
    generator_loss,
)
from duplex.training.dialogues.shards import codec_fingerprint
from training_support import FRAME, SHAPE, checkpoint, harmonics, shorten, some_corpus, train

BRIEF = DecoderSettings(
    steps=6,
    adversarial_steps=5,
    discriminator_steps=2,
    discriminator_channels=4,
    batch=2,
    crop_frames=4,
    context_frames=4,
    warmup=1,
)
ADVERSARIAL = 3
"""The first step in which the decoder hears the discriminators."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    """The folder of the codec to start from."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return train(data, tmp_path_factory.mktemp("first") / "run")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    shorten(monkeypatch)


def refine(data, out, first, settings=BRIEF, **options):
    return train_decoder(data, out, settings, start_from=first, device="cpu", **options)


@pytest.fixture(scope="module")
def whole(data, first, tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        refine(data, out, first)
    return out


def module(first, settings=BRIEF):
    config = MimiConfig.from_dict(SHAPE, where="here")
    mimi = read_mimi(config, first / MIMI_WEIGHTS, config.quantizer.n_q, torch.device("cpu"))
    return DecoderModule(mimi, settings)


def crops():
    codes = torch.randint(16, (2, 4, 8), generator=torch.Generator().manual_seed(0))
    return codes, torch.tensor(np.stack([harmonics(4 * FRAME / 24000, seed=seed) for seed in range(2)]))


def test_codes_stay_and_the_sound_changes(whole, first):
    pcm = harmonics(2, seed=7)
    before, after = (duplex.load_codec(str(folder), device="cpu") for folder in (first, whole / "codec"))
    codes = before.encode(pcm)
    assert np.array_equal(after.encode(pcm), codes)
    assert not np.allclose(after.decode(codes), before.decode(codes))
    old, new = (
        read_mimi(after.mimi.config, f / MIMI_WEIGHTS, 4, torch.device("cpu")) for f in (first, whole / "codec")
    )
    kept = ("encoder", "downsample", "quantizer")
    for (name, was), (_, now) in zip(old.state_dict().items(), new.state_dict().items(), strict=True):
        if name.startswith(kept):
            assert torch.equal(was, now), name


def test_dialogues_that_were_made_with_the_codec_stay_of_use(whole, first, tmp_path):
    encoding = codec_fingerprint(resolve(str(first), parts=("codec",)))
    assert codec_fingerprint(resolve(str(whole / "codec"), parts=("codec",))) == encoding
    weights = load_file(first / MIMI_WEIGHTS)
    shutil.copy(first / MIMI_CONFIG, tmp_path)
    for name, same in (("decoder.model.0.conv.conv.bias", True), ("encoder.model.0.conv.conv.bias", False)):
        save_file({**weights, name: weights[name] + 1}, tmp_path / MIMI_WEIGHTS)
        assert (codec_fingerprint(resolve(str(tmp_path), parts=("codec",))) == encoding) is same


def test_the_file_is_as_large_as_before(whole, first):
    assert files_below(whole / "codec") == sorted([MIMI_CONFIG, MIMI_WEIGHTS])
    assert (whole / "codec" / MIMI_WEIGHTS).stat().st_size == (first / MIMI_WEIGHTS).stat().st_size


def test_a_run_goes_on_as_if_it_had_not_stopped(data, first, whole, tmp_path):
    calls, draw = [], DecoderModule.forward

    def interrupted(self, *given, **options):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(self, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecoderModule, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refine(data, tmp_path / "run", first, save_every=0)
    assert checkpoint(tmp_path / "run")["step"] == 3
    refine(data, tmp_path / "run", first)
    one, other = checkpoint(whole), checkpoint(tmp_path / "run")
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())


def test_another_choice_is_another_run(data, first, whole):
    with pytest.raises(TrainingError, match="adversarial_weight"):
        refine(data, whole, first, attrs.evolve(BRIEF, adversarial_weight=3.0))


def test_other_data_is_another_run(data, first, whole, tmp_path):
    grown = Path(shutil.copytree(data, tmp_path / "grown"))
    shutil.copy(min(grown.iterdir()), grown / "more.safetensors")
    with pytest.raises(TrainingError, match=r"other data: more\.safetensors is new"):
        refine(grown, whole, first)


def test_a_corpus_of_short_shards(data, first, tmp_path):
    with pytest.raises(CorpusError, match="108 frames"):
        refine(data, tmp_path / "run", first, attrs.evolve(BRIEF, context_frames=104))


def test_spectra_alone_need_no_discriminators(data, first, tmp_path):
    reports = []
    settings = attrs.evolve(BRIEF, adversarial_steps=0)
    refine(data, tmp_path / "run", first, settings, progress=reports.append)
    assert {"mel", "spectrum"} < reports[-1].losses.keys()
    assert not {"discriminator", "adversarial", "feature"} & reports[-1].losses.keys()


def test_each_side_learns_from_its_own_loss(first):
    model = module(first)
    codes, wanted = crops()
    losses = model(codes, wanted, ADVERSARIAL)
    decoder, judges = (model.parameter_groups()[name] for name in ("decoder", "discriminators"))
    told = torch.autograd.grad(
        losses["adversarial"] + losses["feature"], [*decoder, *judges], allow_unused=True, retain_graph=True
    )
    assert any(each is not None and each.abs().sum() > 0 for each in told[: len(decoder)])
    assert all(each is None for each in told[len(decoder) :])
    told = torch.autograd.grad(losses["discriminator"], [*decoder, *judges], allow_unused=True)
    assert all(each is None for each in told[: len(decoder)])
    assert any(each is not None and each.abs().sum() > 0 for each in told[len(decoder) :])


def test_discriminators_are_not_heard_before_they_know_anything(first):
    model, (codes, wanted) = module(first), crops()
    told = [model(codes, wanted, step).keys() - {"mel", "spectrum", "total"} for step in range(ADVERSARIAL + 1)]
    learning = {"discriminator"}
    assert told == [set(), learning, learning, learning | {"adversarial", "feature"}]


def test_discriminators_learn_to_tell_noise_from_speech():
    torch.manual_seed(0)
    judges = StftDiscriminators(4)
    speech = crops()[1] / 0.05
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(1))
    optimizer, losses = torch.optim.Adam(judges.parameters(), lr=3e-3), []
    for _ in range(25):
        losses.append(discriminator_loss(judges(speech), judges(noise)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        real, forged = judges(speech), judges(noise)
    assert generator_loss(real) < generator_loss(forged)
    assert feature_distance(real, real) == 0 < feature_distance(real, forged)
