"""Relatives of Moshi on the MLX backend: guidance, synthesis' language model, extra heads, and both layouts."""

import json
import shutil

import attrs
import numpy as np
import pytest
from family_support import FAMILY, GREEDY, load_family, said, voices_of
from safetensors.numpy import load_file, save_file

from duplex.backends.shared.pieces import finish
from duplex.errors import UsageError
from duplex.frame_model import Conditions

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
synthesis_of = pytest.importorskip("mlx_synthesis_support")

GOOD = {"description": "very_good"}
GUIDED = Conditions(words=GOOD, null=Conditions(words={"description": "very_bad"}))
THREE = attrs.evolve(GREEDY, guidance=3.0)
TTS = FAMILY / "tts"


@pytest.fixture(scope="module")
def hibiki():
    model, expected = load_family("hibiki", "mlx", sessions=3)
    yield model, expected
    model.close()


def copied(state):
    return attrs.evolve(state, tensors=dict(state.tensors))


def assert_guided(answer, expected):
    text, codes = answer
    np.testing.assert_array_equal(text, expected["cfg3.text"])
    np.testing.assert_array_equal(codes, expected["cfg3.audio"])


def test_guidance(hibiki):
    model, expected = hibiki
    model.open(0, THREE, GUIDED)
    assert_guided(said(model, 0, expected["cfg3.fed"]), expected)


def test_guidance_goes_on_after_a_move(hibiki):
    model, expected = hibiki
    model.open(0, THREE, GUIDED)
    said(model, 0, expected["cfg3.fed"][:, :19])
    state = copied(model.export(0))
    assert any(name.startswith("lm.null.") for name in state.tensors)
    finish(model.restore(2, state))
    assert_guided(said(model, 2, expected["cfg3.fed"][:, 19:]), expected)


def test_a_guided_session_is_rebuilt_from_its_tokens(hibiki):
    """As for a state of other numbers, of which only the tokens can be used."""
    model, expected = hibiki
    model.open(0, THREE, GUIDED)
    said(model, 0, expected["cfg3.fed"][:, :19])
    state = copied(model.export(0))
    finish(model.restore(2, attrs.evolve(state, metadata={**state.metadata, "dtype": "bfloat16"})))
    assert_guided(said(model, 2, expected["cfg3.fed"][:, 19:]), expected)


def test_a_batch_of_guided_and_plain_sessions(run):
    """Each says what it says alone, and keeps its own row of guidance."""
    model, _ = load_family("hibiki", "mlx", sessions=3)
    chosen = [(THREE, GUIDED), (GREEDY, Conditions(words=GOOD)), (attrs.evolve(GREEDY, guidance=2.0), None)]
    random = np.random.default_rng(5)
    frames = random.normal(0, 0.1, (3, 12, model.spec.frame_size)).astype(np.float32)
    alone = []
    for heard, (options, conditions) in zip(frames, chosen, strict=True):
        model.open(0, options, conditions)
        alone.append(run(model, opened=True).hear(heard).tokens)
    together = []
    for slot, (options, conditions) in enumerate(chosen):
        model.open(slot, options, conditions)
        together.append(run(model, slot, opened=True))
    for index in range(frames.shape[1]):
        result = model.step(frames[:, index], np.ones(3, np.bool_))
        for each in together:
            each.take(result)
    model.close()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other.tokens)
    assert len({each.tokens.tobytes() for each in together}) == len(chosen)


def test_without_guidance_there_is_no_second_row(hibiki):
    model, _ = hibiki
    model.open(0, GREEDY, GUIDED)
    assert not [name for name in model.state[0] if name.startswith("lm.null.")]


def test_vectors_for_a_model_that_takes_words(hibiki):
    model, _ = hibiki
    vectors = {"description": np.zeros((4, 12), np.float32)}
    with pytest.raises(UsageError, match="no condition 'description' of vectors"):
        model.open(0, GREEDY, Conditions(vectors=vectors))


@pytest.fixture(scope="module")
def synthesis():
    return synthesis_of.Synthesis(TTS), load_file(TTS / "expected.safetensors")


def test_what_synthesis_is_conditioned_on(synthesis):
    made, expected = synthesis
    provider, conditions = made.model.condition_provider, voices_of(TTS, control="ok", cfg="2.0")
    np.testing.assert_allclose(np.array(provider.sum(conditions)), expected["condition_sum"], atol=1e-5)
    np.testing.assert_allclose(np.array(provider.cross(conditions)), expected["condition_cross"], atol=1e-5)


@pytest.mark.parametrize(("run", "coefficient"), [("", "2.0"), ("between0.", "3.5")])
def test_synthesis(synthesis, run, coefficient):
    made, expected = synthesis
    logits, tokens = made.run(expected[f"{run}text"], GREEDY, voices_of(TTS, control="ok", cfg=coefficient))
    frames = expected[f"{run}frames"]
    np.testing.assert_array_equal(tokens[:, : frames.shape[1]], frames)
    if not run:
        np.testing.assert_allclose(logits, expected["text_logits"], atol=1e-3)


def test_codebooks_of_one_weight_set_share_it_in_memory(synthesis):
    made, _ = synthesis
    slices, sets = made.model.depformer.slices, made.model.config.depth_weight_sets
    assert len(set(sets)) < len(sets)
    held = {id(part.transformer["layers"][0].self_attn.in_proj.weight) for part in slices}
    assert len(held) == len(set(sets))


@pytest.fixture
def with_heads(small, tmp_path):
    """A checkpoint with extra heads, as recognition models have."""
    folder = tmp_path / "heads"
    shutil.copytree(small.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"extra_heads_num_heads": 4, "extra_heads_dim": 6}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)
    heads = {f"extra_heads.{head}.weight": random.normal(0, 0.3, (6, 64)).astype(np.float32) for head in range(4)}
    save_file(load_file(folder / "model.safetensors") | heads, folder / "model.safetensors")
    return folder


def test_extra_heads_are_those_of_torch(small, with_heads, opened):
    told = []
    for backend in ("mlx", "torch"):
        model = opened(small.load(with_heads, backend=backend, sessions=2))
        model.open(1, GREEDY)
        active = np.array([False, True])
        for frame in small.frames[:6]:
            result = model.step(np.stack([frame, frame]), active)
        assert result.heads.shape == (2, 4, 6)
        np.testing.assert_allclose(result.heads[1].sum(axis=-1), 1, atol=1e-5)
        told.append(result.heads[1])
    np.testing.assert_allclose(*told, atol=1e-4)
