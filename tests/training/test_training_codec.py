"""What the codec's training is made of: first weights, losses, codebooks, crops, and the release."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import duplex
from cli_support import RATE, REFERENCE, files_below
from duplex.backends.torch.codec import read_mimi
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.quantizer import ResidualQuantizer
from duplex.backends.torch.state import Call
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS
from duplex.checkpoints.mimi_config import MimiConfig, QuantizerConfig
from duplex.training import TINY_CODEC, CodecSettings
from duplex.training.codec.export import export_codec
from duplex.training.codec.initialization import initialize, plain_weights
from duplex.training.codec.losses import WINDOWS, MultiScaleMelLoss, mel_filters
from duplex.training.codec.training_module import MimiTrainingModule
from duplex.training.codec.vector_quantization import bypass, initialize_codebooks, quantize
from training_support import FRAME, QUICK, SHAPE, WIDTH, harmonics


def speech(batch=2, frames=10):
    return torch.tensor(np.stack([harmonics(frames * FRAME / RATE, seed=seed) for seed in range(batch)]))


CHANCE = torch.Generator().manual_seed(0)


def rms(x):
    return float(x.square().mean().sqrt())


# Weights to start from


@pytest.mark.parametrize(("shape", "seed"), [(TINY_CODEC, 0), (TINY_CODEC, 1), (SHAPE, 0), (SHAPE, 1), (SHAPE, 2)])
def test_a_signal_keeps_its_size_through_all_layers(shape, seed):
    mimi = Mimi(MimiConfig.from_dict(shape, where="here"), 2)
    initialize(mimi, seed)
    sizes = {}
    for name, module in mimi.named_modules():
        if isinstance(module, CausalConv1d | CausalConvTranspose1d):
            module.register_forward_hook(lambda _, __, made, name=name: sizes.update({name: rms(made)}))
    pcm = speech()
    with torch.no_grad():
        latent = mimi.encode_latents(pcm, Call())
        mimi.decode_latents(sum(bypass(half, latent) for half in mimi.quantizer.children()), Call())
    last = list(sizes)[-1]
    assert last.startswith("decoder.model.")
    assert 1 / 4 < sizes.pop(last) / rms(pcm) < 4
    assert min(sizes.values()) > 0.2
    assert max(sizes.values()) < 6.5


def test_first_weights_depend_on_the_seed_alone():
    first, again, other = (MimiTrainingModule(MimiConfig.from_dict(SHAPE, where="here"), s, WIDTH) for s in SEEDS)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(
        first.mimi.encoder.model[0].conv["conv"].weight, other.mimi.encoder.model[0].conv["conv"].weight
    )


SEEDS = [CodecSettings(seed=0), CodecSettings(seed=0), CodecSettings(seed=1)]

# The loss


@pytest.fixture(scope="module")
def mel():
    return MultiScaleMelLoss(RATE)


def test_the_loss_grows_with_the_distortion(mel):
    wanted, noise = speech(), torch.randn(2, 10 * FRAME, generator=torch.Generator().manual_seed(0))
    assert mel(wanted, wanted) == 0
    losses = [float(mel(wanted + size * noise, wanted)) for size in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1] / 10
    assert mel(wanted * 0.5, wanted) > 0.1
    assert mel(wanted.flip(0), wanted) > mel(wanted + 1e-3 * noise, wanted)


def test_a_level_is_a_difference_of_logarithms(mel):
    noise = torch.randn(2, 10 * FRAME, generator=torch.Generator().manual_seed(0))
    assert float(mel(noise / 2, noise)) == pytest.approx(np.log(2), rel=0.01)


def test_silence_is_no_trouble(mel):
    silence = torch.zeros(2, 5 * FRAME, requires_grad=True)
    for wanted in (torch.zeros(2, 5 * FRAME), speech(2, 5)):
        loss = mel(silence, wanted)
        (gradient,) = torch.autograd.grad(loss, silence)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
    assert mel(torch.zeros(2, 5 * FRAME), torch.zeros(2, 5 * FRAME)) == 0


@pytest.mark.parametrize(("window", "bands"), WINDOWS)
def test_mel_filters(window, bands):
    filters = mel_filters(RATE, window, bands)
    assert filters.shape == (bands, window // 2 + 1)
    assert (filters >= 0).all()
    np.testing.assert_allclose(filters.sum(axis=1), 1, atol=1e-5)
    assert (filters[:, 1:-1].sum(axis=0) > 0).all()  # no pitch falls between two
    centres = filters @ np.arange(window // 2 + 1)
    assert (np.diff(centres) > 0).all()


def test_the_loss_moves_a_sound_towards_the_wanted_one(mel):
    wanted = speech(1, 4)
    made = (wanted + 0.02 * torch.randn(1, 4 * FRAME, generator=torch.Generator().manual_seed(0))).requires_grad_()
    optimizer, losses = torch.optim.Adam([made], lr=1e-3), []
    for _ in range(15):
        losses.append(mel(made, wanted))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


# Codebooks


def quantizer(count=3, bins=16, dimension=4):
    shape = QuantizerConfig(dimension=dimension, n_q=count + 1, bins=bins, input_dimension=6, output_dimension=6)
    generator = torch.Generator().manual_seed(0)
    made = ResidualQuantizer(shape, count)
    for projection in (made.input_proj, made.output_proj):
        nn.init.normal_(projection.weight, std=0.5, generator=generator)
    for codebook in made.codebooks:
        codebook.embedding_sum.normal_(generator=generator)
        codebook.prepare()
    return made


def latents(batch=2, frames=50, seed=1):
    """Vectors in a few heaps, float32 ``[batch, frames, 6]``."""
    generator = torch.Generator().manual_seed(seed)
    heaps = 2 * torch.randn(5, 6, generator=generator)
    chosen = heaps[torch.randint(5, (batch, frames), generator=generator)]
    return chosen + 0.2 * torch.randn(batch, frames, 6, generator=generator)


def error_of(made, latent):
    with torch.no_grad():
        return float((made.decode(made.encode(latent)) - bypass(made, latent)).square().mean())


def test_what_is_quantized_is_what_the_codec_would_decode():
    made, latent = quantizer(), latents()
    sound, commitment = quantize(made, latent, learn=None)
    torch.testing.assert_close(sound, made.decode(made.encode(latent)))
    assert commitment > 0


def test_gradients_pass_as_if_nothing_were_quantized():
    made, latent = quantizer(), latents().requires_grad_()
    weights = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(2))
    wanted = [latent, made.input_proj.weight]
    through = torch.autograd.grad((quantize(made, latent, learn=None)[0] * weights).sum(), wanted)
    past = torch.autograd.grad((bypass(made, latent) * weights).sum(), wanted)
    torch.testing.assert_close(through, past)


def test_the_commitment_draws_latents_to_their_entries():
    made, latent = quantizer(), latents().requires_grad_()
    before = quantize(made, latent, learn=None)[1]
    (gradient,) = torch.autograd.grad(before, latent)
    assert gradient.abs().max() > 0
    assert quantize(made, latent - 10 * gradient, learn=None)[1] < before
    assert not any(parameter.requires_grad for codebook in made.codebooks for parameter in codebook.buffers())


def test_entries_move_to_what_chooses_them_and_only_when_they_learn():
    made, latent = quantizer(count=1, bins=2, dimension=6), torch.randn(1, 400, 6) / 10 + 1
    nn.init.eye_(made.input_proj.weight[:, :, 0])
    latent[:, ::2] *= -1
    codebook = made.codebooks[0]
    codebook.embedding_sum.copy_(torch.tensor([[0.2], [-0.3]]).expand(2, 6))
    codebook.prepare()
    entries = codebook.entries.clone()
    quantize(made, latent, learn=None)
    assert torch.equal(codebook.entries, entries)
    for _ in range(100):
        quantize(made, latent, learn=CHANCE)
    torch.testing.assert_close(codebook.entries, torch.tensor([[1.0], [-1.0]]).expand(2, 6), atol=0.05, rtol=0)


def test_entries_that_nobody_chooses_start_again():
    made, latent = quantizer(), latents()
    for codebook in made.codebooks:
        codebook.embedding_sum[5] = 1000.0
        codebook.prepare()
    before = error_of(made, latent)
    for _ in range(150):
        quantize(made, latent, learn=CHANCE)
    assert all(codebook.entries.abs().max() < 20 for codebook in made.codebooks)
    assert error_of(made, latent) < 0.2 * before
    chosen = {int(code) for code in made.encode(latent)[:, 0].flatten()}
    assert len(chosen) > 8


@pytest.mark.parametrize("count", [400, 7])
def test_seeded_codebooks_fit_better_than_chance(count):
    made, latent = quantizer(), latents(batch=8)
    before = error_of(made, latent)
    vectors = latent.flatten(0, 1)[:count]
    initialize_codebooks(made, vectors, torch.Generator().manual_seed(0))
    first = [codebook.entries.clone() for codebook in made.codebooks]
    assert error_of(made, latent[:1] if count == 400 else vectors[None]) < 0.1 * before
    initialize_codebooks(made, vectors, torch.Generator().manual_seed(0))
    assert all(torch.equal(codebook.entries, was) for codebook, was in zip(made.codebooks, first, strict=True))
    with torch.no_grad():  # each codebook says more
        codes, wanted = made.encode(vectors[None]), bypass(made, vectors[None])
        errors = [float((made.decode(codes[:, :n]) - wanted).square().mean()) for n in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)


# What is released


@pytest.fixture(scope="module")
def trained():
    """A codec whose codebooks have moved."""
    model = MimiTrainingModule(MimiConfig.from_dict(SHAPE, where="here"), QUICK, WIDTH)
    model.initialize_codebooks(model.latents(speech(8, 40)), seed=0)
    for _ in range(3):
        model(speech(), None, torch.zeros(2, dtype=torch.bool), with_audio=True)
    return model.eval()


def test_a_release_computes_what_was_trained(trained, tmp_path):
    export_codec(trained.mimi, SHAPE, tmp_path, torch.float32)
    codec, pcm = duplex.load_codec(str(tmp_path), device="cpu"), speech(1, 20)
    with torch.no_grad():
        codes = trained.mimi.encode(pcm, Call())
    assert codec.spec.codebooks == 4
    assert np.array_equal(codec.encode(pcm[0].numpy()), codes[0].numpy())
    assert len(codes.unique()) > 4
    np.testing.assert_allclose(codec.decode(codes[0].numpy()), trained.reconstruct(pcm)[0].numpy(), atol=1e-4)


def test_a_release_is_rounded_once(trained, tmp_path):
    export_codec(trained.mimi, SHAPE, tmp_path)
    assert json.loads((tmp_path / MIMI_CONFIG).read_text()) == SHAPE
    assert files_below(tmp_path) == sorted([MIMI_CONFIG, MIMI_WEIGHTS])
    first, again = (duplex.load_codec(str(tmp_path), device="cpu") for _ in range(2))
    pcm = speech(1, 20)[0].numpy()
    assert np.array_equal(first.encode(pcm), again.encode(pcm))
    weights = plain_weights(trained.mimi)
    read = read_mimi(first.mimi.config, tmp_path / MIMI_WEIGHTS, first.mimi.codebooks, torch.device("cpu"))
    for name, tensor in read.named_parameters():
        torch.testing.assert_close(tensor, weights[name].bfloat16().float(), rtol=0, atol=0)
    for half in ("rvq_first", "rvq_rest"):
        pairs = (getattr(mimi.quantizer, half).codebooks for mimi in (first.mimi, trained.mimi))
        for loaded, codebook in zip(*pairs, strict=True):
            assert torch.equal(loaded.entries, codebook.entries.bfloat16().float())


def test_a_release_has_the_published_names(trained, tmp_path):
    """All of them: the original's loader insists."""
    export_codec(trained.mimi, SHAPE, tmp_path)
    made, published = load_file(tmp_path / MIMI_WEIGHTS), load_file(REFERENCE / "small" / MIMI_WEIGHTS)
    names = [{re.sub(r"layers\.\d+", "layers.N", name) for name in tensors} for tensors in (made, published)]
    assert names[0] == names[1]
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    assert sum("rvq_rest.vq" in name and name.endswith("cluster_usage") for name in made) == 3
