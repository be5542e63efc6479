"""A step on a CPU as a recorded program computes what the step in Python computes, bit for bit."""

import numpy as np
import pytest
import torch

import duplex
from duplex.backends.torch import torchscript
from duplex.backends.torch.sampling import Sampling
from duplex.options import SessionOptions

FRAMES, SESSIONS = 40, 5


def mixed(slot):
    """One greedy session among sampled ones, of different temperatures and depths."""
    return SessionOptions(
        temperature=0.0 if slot == 1 else 0.8,
        text_temperature=0.0 if slot == 1 else 0.7,
        top_k=(250, 0, 8)[slot % 3],
        text_top_k=25,
        seed=slot,
    )


def held(model):
    """Return what was said: a comer and goer, changing companies, and a late session of another kind."""
    rng = np.random.default_rng(0)
    spec, said = model.spec, []
    for slot in range(SESSIONS - 1):
        model.open(slot, mixed(slot))
    for frame in range(FRAMES):
        if frame == FRAMES // 2:
            model.open(SESSIONS - 1, mixed(SESSIONS - 1))
        there = SESSIONS - (frame < FRAMES // 2)
        active = (rng.random(SESSIONS) < 0.7) & (np.arange(SESSIONS) < there)
        result = model.step(rng.normal(0, 0.1, (SESSIONS, spec.frame_size)).astype(np.float32), active)
        said.append((result.valid, result.text, result.agent, result.user, result.pcm))
    return said


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"quantize": "int8"}, {"cache_dtype": "int8"}])
def test_it_computes_the_same(checkpoint_reference, opened, options):
    recorded, plain = (
        opened(checkpoint_reference.load(sessions=SESSIONS, deterministic=False, **options)) for _ in range(2)
    )
    plain.steps.recorded = None
    programs = held(recorded)
    for ours, theirs in zip(programs, held(plain), strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert all(recorded.program is not None for recorded in recorded.steps.recorded._programs.values())
    assert len(recorded.steps.recorded._programs) > 1


def test_recording_leaves_the_state_alone(small, opened):
    """Another kind of sampling is recorded while a conversation goes on in the slot that is used for it."""
    model = opened(small.load(sessions=2))
    model.open(0, mixed(0))
    for _ in range(5):
        model.step(np.full((2, model.spec.frame_size), 0.1, np.float32), np.array([True, False]))
    before = {name: tensor.clone() for name, tensor in model.state.tensors.items()}
    known = len(model.steps.recorded._programs)
    with torch.inference_mode():
        model.steps.recorded.prepare(Sampling.of([mixed(1)]), 0)
    assert len(model.steps.recorded._programs) == known + 1
    for name, tensor in model.state.tensors.items():
        assert (tensor == before[name]).all(), name


def test_whatever_depth_is_asked_for_takes_the_same_program(small, run, depths, greedy, opened):
    """A caller cannot have a step recorded, which holds everybody up, by asking for yet another top-k."""
    recorded, plain = (opened(small.load(sessions=3, deterministic=False)) for _ in range(2))
    plain.steps.recorded = None
    frames = small.frames[:4]
    for options in depths:
        assert run(recorded, 1, options).hear(frames) == run(plain, 1, options).hear(frames)
    assert len(recorded.steps.recorded._programs) == 1
    pcm, everybody = np.repeat(frames[:1], 3, axis=0), np.ones(3, bool)
    for first, second in zip(depths[::2], depths[1::2], strict=True):
        results = []
        for model in (recorded, plain):
            for slot, options in enumerate((first, second, greedy)):
                model.open(slot, options)
            model.step(pcm, everybody)
            results.append(model.step(pcm, everybody))
        assert np.array_equal(results[0].text, results[1].text)
        assert np.array_equal(results[0].agent, results[1].agent)
    assert len(recorded.steps.recorded._programs) == 2, "one that samples, and one for greedy sessions alone"
    assert all(program.program is not None for program in recorded.steps.recorded._programs.values())


def test_without_torchscript(small, opened, monkeypatch):
    """A PyTorch that has it no more, and one in which it fails, run the step as it is written."""
    expected = held(opened(small.load(sessions=SESSIONS, deterministic=False)))

    def fail(*_):
        raise RuntimeError("cannot be traced")

    monkeypatch.setattr(torchscript, "trace", fail)
    failing = opened(small.load(sessions=SESSIONS, deterministic=False))
    monkeypatch.setattr(torchscript, "AVAILABLE", False)
    gone = opened(small.load(sessions=SESSIONS, deterministic=False))
    assert gone.steps.recorded is None
    for model in (failing, gone):
        for ours, theirs in zip(held(model), expected, strict=True):
            for mine, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_codec_frame_by_frame(checkpoint_reference, quantize, monkeypatch):
    """Two streams take turns in programs that the first one had recorded, past the end of their rings."""
    codec = duplex.load_codec(str(checkpoint_reference.folder), device="cpu", quantize=quantize)
    size = codec.spec.frame_size
    voices = np.random.default_rng(0).normal(0, 0.1, (2, 150, size)).astype(np.float32)
    turns = [codec.stream(), codec.stream()]
    codes, said = ([], []), ([], [])
    for frame in range(voices.shape[1]):
        for turn, stream in enumerate(turns):
            codes[turn].append(stream.encode(voices[turn, frame]))
            said[turn].append(stream.decode(codes[turn][-1]))
    assert codec.encoder.program is not None
    assert codec.decoder.program is not None
    monkeypatch.setattr(torchscript, "AVAILABLE", False)
    for turn, voice in enumerate(voices):
        plain = duplex.load_codec(str(checkpoint_reference.folder), device="cpu", quantize=quantize).stream()
        for frame, ours, audio in zip(voice, codes[turn], said[turn], strict=True):
            np.testing.assert_array_equal(plain.encode(frame), ours)
            np.testing.assert_array_equal(plain.decode(ours), audio)
