"""The torch backend on CUDA: captured graphs and kernels compute what the plain path computes."""

import numpy as np
import pytest
import torch

from duplex.backends.torch import kernels
from duplex.testing import check_frame_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def load(reference, **options):
    return reference.load(device="cuda", **options)


@pytest.fixture
def plainly(monkeypatch, opened, run):
    """Hold a conversation without kernels and graphs."""

    def converse(reference, frames, talk, **options):
        with monkeypatch.context() as patched:
            patched.setattr(kernels, "installed", lambda: False)
            return run(opened(load(reference, **options)), options=talk).hear(frames)

    return converse


def test_codes_and_greedy_tokens_are_the_original_s(checkpoint_reference, opened, run, greedy):
    model, expected = opened(load(checkpoint_reference)), checkpoint_reference.expected
    assert np.array_equal(model.codec.encode(expected["pcm"]), expected["mimi_codes"])
    held = run(model, options=greedy).hear(checkpoint_reference.frames)
    assert np.array_equal(held.text, expected["lm_text"])
    assert np.array_equal(np.array(held.agent).T, expected["lm_audio"])
    np.testing.assert_allclose(np.concatenate(held.pcm), expected["agent_pcm"], atol=1e-3)


def test_the_conformance_suite(checkpoint_reference):
    check_frame_model(lambda capacity: load(checkpoint_reference, sessions=capacity), frames=8)


def test_sampled_tokens_are_those_of_the_plain_path(small, opened, run, sampled, plainly):
    expected = plainly(small, small.frames, sampled)
    found = run(opened(load(small)), options=sampled).hear(small.frames)
    assert np.array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.pcm, expected.pcm, atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"quantize": "int8"}, {"quantize": "int4"}, {"quantize": "fp8"}, {"cache_dtype": "int8"}]
)
def test_few_bits_are_those_of_the_plain_path(small, opened, run, greedy, plainly, options):
    expected = plainly(small, small.frames[:20], greedy, **options)
    found = run(opened(load(small, **options)), options=greedy).hear(small.frames[:20])
    assert (found.tokens == expected.tokens).mean() > 0.9  # a rounding at an edge may fall to the other side


def test_whatever_depth_is_asked_for_takes_the_same_graph(small, opened, run, depths, plainly):
    model = opened(load(small))
    captured = len(model.steps.graphs._captured)
    for options in depths:
        found = run(model, options=options).hear(small.frames[:4])
        assert np.array_equal(found.tokens, plainly(small, small.frames[:4], options).tokens)
    assert len(model.steps.graphs._captured) == captured


def test_slots_come_and_go_beside_each_other(small, opened, run, sampled):
    """Batches of every size, in buckets that they do not fill: each slot's conversation is what it is alone."""
    alone = run(opened(load(small)), options=sampled).hear(small.frames[:30])
    model = opened(load(small, sessions=5, deterministic=False))
    held = [run(model, slot, sampled) for slot in range(5)]
    waiting = [list(small.frames[:30]) for _ in held]
    random = np.random.default_rng(0)
    while any(waiting):
        active = np.array([bool(frames) and random.random() < 0.6 for frames in waiting])
        pcm = np.zeros((5, model.spec.frame_size), np.float32)
        for slot in np.flatnonzero(active):
            pcm[slot] = waiting[slot].pop(0)
        result = model.step(pcm, active)
        for each in held:
            each.take(result)
    for each in held:
        assert np.array_equal(each.tokens, alone.tokens)


def test_bfloat16(small, opened, run, greedy):
    """Random weights soon lead elsewhere; the beginning is the same, and what was heard is always."""
    held = run(opened(load(small, dtype="bfloat16")), options=greedy).hear(small.frames)
    assert held.text[:2] == small.expected["lm_text"][:2].tolist()
    assert np.array_equal(np.array(held.user).T, small.expected["mimi_codes"][: held.model.spec.user_streams])
    assert np.isfinite(held.pcm).all()
