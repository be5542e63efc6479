"""The MLX backend computes what the original computes, and chooses what the torch backend chooses."""

import threading
from operator import attrgetter

import attrs
import numpy as np
import pytest

from duplex.backends.shared import noise
from duplex.errors import UsageError
from duplex.frame_model import split_columns
from duplex.testing import check_frame_model

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
sampling = pytest.importorskip("duplex.backends.mlx.sampling")

CHUNKS = [1, 2, 3, 7, 16, 80]


@pytest.fixture(scope="module")
def model(checkpoint_reference):
    model = checkpoint_reference.load(backend="mlx")
    yield model
    model.close()


@pytest.fixture(scope="module")
def answer(model, checkpoint_reference, run, greedy):
    return run(model, options=greedy).hear(checkpoint_reference.frames)


def long_recording(reference, frames):
    """The reference's recording over and over, never twice the same."""
    heard = np.tile(reference.frames, (frames // len(reference.frames) + 1, 1))[:frames]
    return heard * np.random.default_rng(3).uniform(0.3, 1.5, (frames, 1)).astype(np.float32)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_codes(model, checkpoint_reference, chunk):
    frames, stream = checkpoint_reference.frames, model.codec.stream()
    pieces = [stream.encode(frames[start : start + chunk].ravel()) for start in range(0, len(frames), chunk)]
    codes = np.concatenate(pieces, axis=1)
    assert codes.dtype == np.int64
    assert np.array_equal(codes, checkpoint_reference.expected["mimi_codes"])


@pytest.mark.parametrize("chunk", CHUNKS)
def test_decoded_audio(model, checkpoint_reference, chunk):
    expected, stream = checkpoint_reference.expected, model.codec.stream()
    pcm = np.concatenate([stream.decode(piece) for piece in split_columns(expected["mimi_codes"], chunk)])
    np.testing.assert_allclose(pcm, expected["mimi_pcm"], atol=1e-4)


def test_greedy_tokens(answer, checkpoint_reference):
    expected = checkpoint_reference.expected
    assert answer.times == list(range(len(expected["lm_text"])))
    assert np.array_equal(answer.text, expected["lm_text"])
    assert np.array_equal(np.array(answer.agent).T, expected["lm_audio"])
    users = answer.model.spec.user_streams
    assert np.array_equal(np.array(answer.user).T, expected["mimi_codes"][:users, : len(answer.times)])


def test_agent_audio(answer, checkpoint_reference):
    np.testing.assert_allclose(np.concatenate(answer.pcm), checkpoint_reference.expected["agent_pcm"], atol=1e-3)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_conformance_suite(checkpoint_reference, deterministic):
    check_frame_model(
        lambda capacity: checkpoint_reference.load(backend="mlx", sessions=capacity, deterministic=deterministic),
        frames=8,
    )


@pytest.mark.parametrize(("count", "seed"), [(125, 7), (500, 7), (500, 2**64 - 1)])
def test_sampled_tokens_are_those_of_torch(checkpoint_reference, run, sampled, opened, count, seed):
    """Free-running: past every ring's end, and with no history but each backend's own."""
    frames = long_recording(checkpoint_reference, count)
    options = attrs.evolve(sampled, seed=seed)
    ours, torch = (
        run(opened(checkpoint_reference.load(backend=backend)), options=options).hear(frames)
        for backend in ("mlx", "torch")
    )
    assert ours.times == torch.times
    assert np.array_equal(ours.tokens, torch.tokens)
    np.testing.assert_allclose(ours.pcm, torch.pcm, atol=1e-3)


def test_few_plans_choose_at_any_depth_what_torch_chooses(small, run, depths, greedy, opened):
    """Each plan is compiled, which holds everybody up: a caller cannot ask for many."""
    ours, torch = (opened(small.load(backend=backend)) for backend in ("mlx", "torch"))
    for options in depths:
        held = [run(model, options=options).hear(small.frames[:4]) for model in (ours, torch)]
        assert np.array_equal(held[0].tokens, held[1].tokens), options
    everything = [
        attrs.evolve(each, top_k=top_k, text_top_k=text_top_k)
        for each in (depths[0], greedy)
        for top_k in map(attrgetter("top_k"), depths)
        for text_top_k in map(attrgetter("top_k"), depths)
    ]
    assert len({sampling.Sampling.of([each]) for each in everything}) == 10


@pytest.mark.parametrize("seed", [0, 5, 2**63 + 11])
def test_noise(seed):
    keys = mx.array([noise.round_keys(seed)], mx.uint32)
    for step in (0, 1, 70_000):
        drawn = sampling.gumbel(keys, mx.array([step], mx.int32), [32_000, 2048, 2047])
        for stream, found in enumerate(drawn):
            expected = noise.gumbel(seed, step, stream, found.shape[1])
            np.testing.assert_allclose(np.array(found[0]), expected, atol=2e-6, rtol=2e-6)


def test_noise_at_its_ends():
    """The rarest words, which float32 has no u for."""
    words = np.array([0, 1, 2**23 - 1, 2**23, 2**24 - 2, 2**24 - 1])
    expected = -np.log(-np.log((words + 0.5) / 2**24))
    np.testing.assert_allclose(np.array(sampling._gumbel_of(mx.array(words, mx.int32))), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_compiled_steps_choose_the_same(small, run, sampled, opened):
    """As on a GPU, where steps are compiled; here by the C++ compiler, which not every machine has."""
    try:
        mx.eval(mx.compile(lambda x: mx.exp(x) * 2 + 1)(mx.ones(3)))
    except RuntimeError as error:
        pytest.skip(f"MLX cannot compile here: {error}")
    plain, compiled = (opened(small.load(backend="mlx")) for _ in range(2))
    compiled.compiled = True
    held = [run(model, options=sampled).hear(small.frames[:6]) for model in (plain, compiled)]
    assert np.array_equal(held[0].tokens, held[1].tokens)
    np.testing.assert_allclose(held[0].pcm, held[1].pcm, atol=1e-4)


def test_bfloat16(checkpoint_reference, opened, run, greedy):
    held = run(opened(checkpoint_reference.load(backend="mlx", dtype="bfloat16")), options=greedy)
    held.hear(checkpoint_reference.frames[:20])
    expected = checkpoint_reference.expected
    users = held.model.spec.user_streams
    assert np.array_equal(np.array(held.user).T, expected["mimi_codes"][:users, : len(held.times)])
    assert np.isfinite(held.pcm).all()
    assert held.text[0] == expected["lm_text"][0]


def test_stepped_in_another_thread(model, checkpoint_reference, run, greedy, answer):
    """Loaded here, stepped there, as conversations are; and the codec used meanwhile, anywhere."""
    held, pcm = [], checkpoint_reference.expected["pcm"]
    stepping = threading.Thread(target=lambda: held.append(run(model, options=greedy).hear(answer_frames)))
    answer_frames = checkpoint_reference.frames[:20]
    stepping.start()
    codes = model.codec.encode(pcm)
    stepping.join()
    assert np.array_equal(held[0].tokens, answer.tokens[:, : len(held[0].times)])
    assert np.array_equal(codes, checkpoint_reference.expected["mimi_codes"])


def test_codes_out_of_range(model):
    spec = model.codec.spec
    with pytest.raises(UsageError, match="0 to"):
        model.codec.decode(np.full((spec.codebooks, 1), spec.vocabulary))
    with pytest.raises(UsageError, match="shape"):
        model.codec.decode(np.zeros((spec.codebooks + 1, 1), np.int64))
    with pytest.raises(UsageError, match="multiple"):
        model.codec.stream().encode(np.zeros(7, np.float32))
