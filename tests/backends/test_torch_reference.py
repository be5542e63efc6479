"""The torch backend computes what the original computes, on checkpoints and outputs that the original made."""

import json
import re
import shutil

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from duplex.errors import UsageError, WeightsError
from duplex.frame_model import split_columns
from duplex.testing import check_frame_model

CHUNKS = [1, 2, 3, 7, 16, 80]


@pytest.fixture(scope="module")
def model(checkpoint_reference):
    model = checkpoint_reference.load()
    yield model
    model.close()


@pytest.fixture(scope="module")
def answer(model, checkpoint_reference, run, greedy):
    """The whole input answered greedily, with the text logits of every step."""
    logits, forward = [], model._lm.forward

    def listen(*arguments, **keywords):
        step = forward(*arguments, **keywords)
        logits.append(step.text_logits[0].clone())
        return step

    model.steps.recorded = None  # which would not call it
    model._lm.forward = listen
    try:
        held = run(model, options=greedy).hear(checkpoint_reference.frames)
    finally:
        model._lm.forward = forward
    return held, torch.stack(logits).numpy()


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


def test_whole_recordings(model, checkpoint_reference):
    expected = checkpoint_reference.expected
    assert np.array_equal(model.codec.encode(expected["pcm"]), expected["mimi_codes"])
    np.testing.assert_allclose(model.codec.decode(expected["mimi_codes"]), expected["mimi_pcm"], atol=1e-4)


def test_a_partial_frame_is_padded(model, checkpoint_reference):
    pcm = checkpoint_reference.expected["pcm"][: 3 * 1920 + 5]
    codes = model.codec.encode(pcm)
    assert codes.shape[1] == 4
    assert np.array_equal(codes, model.codec.encode(np.pad(pcm, (0, 1920 - 5))))


def test_greedy_tokens(answer, checkpoint_reference):
    held, _ = answer
    expected = checkpoint_reference.expected
    assert held.times == list(range(len(expected["lm_text"])))
    assert np.array_equal(held.text, expected["lm_text"])
    assert np.array_equal(np.array(held.agent).T, expected["lm_audio"])
    users = held.model.spec.user_streams
    assert np.array_equal(np.array(held.user).T, expected["mimi_codes"][:users, : len(held.times)])


def test_text_logits(answer, checkpoint_reference):
    _, logits = answer
    expected = checkpoint_reference.expected["lm_text_logits"]
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_agent_audio(answer, checkpoint_reference):
    held, _ = answer
    np.testing.assert_allclose(np.concatenate(held.pcm), checkpoint_reference.expected["agent_pcm"], atol=1e-3)


def test_latency(model, checkpoint_reference):
    deepest = {"small": 1, "delay2": 2}[checkpoint_reference.name]
    assert max(model.spec.delays) == deepest
    assert model.spec.latency_frames == deepest - 1


@pytest.mark.parametrize("chunk", [1, 9, 80])
def test_prefill_thinks_what_steps_think(checkpoint_reference, opened, run, greedy, answer, chunk):
    """Known tokens give the logits that the same tokens gave when they were heard and chosen."""
    held, logits = answer
    model = opened(checkpoint_reference.load())
    model.open(0, greedy)
    given, forward = {}, model._lm.forward

    def listen(*arguments, **keywords):
        step = int(model.state.tensors["lm.step"][0])
        result = forward(*arguments, **keywords)
        given[step] = result.text_logits[0].numpy()
        return result

    model.steps.recorded = None  # which would not call it
    model._lm.forward = listen
    for piece in split_columns(held.tokens, chunk):
        model.prefill(0, piece)
    columns = held.tokens.shape[1]
    assert columns in given
    for step, found in given.items():
        np.testing.assert_allclose(found, logits[step], atol=1e-3)
    heard = run(model, opened=True).hear(checkpoint_reference.frames[:1])
    assert heard.times == [columns - model.spec.latency_frames]


def test_the_conformance_suite(checkpoint_reference):
    check_frame_model(lambda capacity: checkpoint_reference.load(sessions=capacity), frames=8)


def test_bfloat16(checkpoint_reference, opened, run, greedy):
    held = run(opened(checkpoint_reference.load(dtype="bfloat16")), options=greedy)
    held.hear(checkpoint_reference.frames[:20])
    expected = checkpoint_reference.expected
    assert np.array_equal(
        np.array(held.user).T, expected["mimi_codes"][: held.model.spec.user_streams, : len(held.times)]
    )
    assert np.isfinite(held.pcm).all()
    assert held.text[0] == expected["lm_text"][0]


def copied(reference, folder, change):
    """Write a copy of a checkpoint with other weights."""
    shutil.copytree(reference.folder, folder)
    (folder / "expected.safetensors").unlink()
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    return folder


def answers_alike(reference, folder, run, greedy, opened, frames=30):
    held = run(opened(reference.load(folder)), options=greedy).hear(reference.frames[:frames])
    assert np.array_equal(held.text, reference.expected["lm_text"][: len(held.text)])
    assert np.array_equal(np.array(held.agent).T, reference.expected["lm_audio"][:, : len(held.text)])


def stepwise(weights):
    """Spell attention projections one a step, as newer files do."""
    spelt = {}
    for name, tensor in weights.items():
        match = re.fullmatch(r"(.*)\.(in_proj_weight|out_proj\.weight)", name)
        if match is None:
            spelt[name] = tensor
            continue
        rows = tensor.shape[1] * (3 if match[2] == "in_proj_weight" else 1)
        kind = "in" if match[2] == "in_proj_weight" else "out"
        for step, start in enumerate(range(0, len(tensor), rows)):
            spelt[f"{match[1]}.{kind}_projs.{step}.weight"] = np.ascontiguousarray(tensor[start : start + rows])
    return spelt


def test_weights_spelt_stepwise(checkpoint_reference, tmp_path, run, greedy, opened):
    folder = copied(checkpoint_reference, tmp_path / "copy", stepwise)
    names = load_file(folder / "model.safetensors")
    assert any(".in_projs.1." in name for name in names)
    answers_alike(checkpoint_reference, folder, run, greedy, opened)


LINEAR = re.compile(r"(_proj_weight|linear\w*\.weight|out_proj\.weight|linears\.\d+\.weight|_in\.\d+\.weight)$")


def quantized(weights):
    """Return 8-bit linears, and the weights that they stand for."""
    eight, meant = {}, {}
    for name, tensor in weights.items():
        if not LINEAR.search(name):
            eight[name] = meant[name] = tensor
            continue
        scales = np.abs(tensor).max(axis=1).astype(np.float32)
        eight[name] = np.rint(tensor / scales[:, None] * 127).astype(np.int8)
        eight[name + "_scb"] = scales
        meant[name] = eight[name].astype(np.float32) * (scales / 127)[:, None]
    assert any(tensor.dtype == np.int8 for tensor in eight.values())
    return eight, meant


def test_eight_bit_weights(checkpoint_reference, tmp_path, run, greedy, opened):
    frames = checkpoint_reference.frames[:20]
    folders = [
        copied(checkpoint_reference, tmp_path / str(part), lambda weights, part=part: quantized(weights)[part])
        for part in (0, 1)
    ]
    eight, meant = (run(opened(checkpoint_reference.load(folder)), options=greedy).hear(frames) for folder in folders)
    assert np.array_equal(eight.tokens, meant.tokens)
    assert np.array_equal(eight.text[:1], checkpoint_reference.expected["lm_text"][:1])


def test_eight_bit_weights_without_scales(small, tmp_path):
    def change(weights):
        eight, _ = quantized(weights)
        return {name: tensor for name, tensor in eight.items() if not name.endswith("text_linear.weight_scb")}

    with pytest.raises(WeightsError, match=r"text_linear.weight_scb.*download"):
        small.load(copied(small, tmp_path / "copy", change))


def test_weights_that_do_not_fit(small, tmp_path):
    def wrong(weights):
        return weights | {"text_linear.weight": weights["text_linear.weight"][:-1]}

    with pytest.raises(WeightsError, match=r"text_linear.weight"):
        small.load(copied(small, tmp_path / "shape", wrong))

    def lacking(weights):
        return {name: tensor for name, tensor in weights.items() if name != "out_norm.alpha"}

    with pytest.raises(WeightsError, match=r"out_norm.alpha"):
        small.load(copied(small, tmp_path / "lacking", lacking))


def test_tensors_in_two_spellings(small, tmp_path):
    def doubled(weights):
        return weights | stepwise(weights)

    with pytest.raises(WeightsError, match=r"same tensor as '.*proj.weight' and as '.*projs\.0\.weight'"):
        small.load(copied(small, tmp_path / "copy", doubled))


def first_linear(weights):
    return next(name for name in weights if LINEAR.search(name))


def with_scales(change):
    """Return a change of weights to 8 bit, with other scales for one of them."""

    def changed(weights):
        eight, _ = quantized(weights)
        name = first_linear(weights) + "_scb"
        return eight | {name: np.ascontiguousarray(change(eight[name]))}

    return changed


def cut_short(weights):
    return {name: tensor[:, :-1].copy() if ".in_projs.1." in name else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_scales(lambda scales: scales[:-1]), r"_scb' is .* one floating number for each row"),
        (with_scales(lambda scales: scales[:, None]), r"_scb' is .* one floating number for each row"),
        (with_scales(lambda scales: scales.astype(np.int32)), r"_scb' is torch\.int32"),
        (lambda weights: weights | {"out_norm.alpha_scb": np.ones(3, np.float32)}, "float32 with scales"),
        (lambda weights: weights | {"nobody.weight_scb": np.ones(3, np.float32)}, "unknown tensor 'nobody.weight_scb'"),
        (lambda weights: weights | {"text_linear.weight": weights["text_linear.weight"].astype(np.int32)}, "int32"),
        (lambda weights: cut_short(stepwise(weights)), r"in_proj_weight' is \[.*\] and \[.*the configuration asks for"),
    ],
)
def test_weights_of_a_wrong_kind(small, tmp_path, change, complaint):
    with pytest.raises(WeightsError, match=complaint) as caught:
        small.load(copied(small, tmp_path / "copy", change))
    assert "model.safetensors" in str(caught.value)


def test_damaged_weights(small, tmp_path):
    folder = copied(small, tmp_path / "copy", dict)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError):
        small.load(folder)


def test_codes_out_of_range(model):
    spec = model.codec.spec
    with pytest.raises(UsageError, match="0 to"):
        model.codec.decode(np.full((spec.codebooks, 1), spec.vocabulary))
    with pytest.raises(UsageError, match="shape"):
        model.codec.decode(np.zeros((spec.codebooks + 1, 1), np.int64))
    with pytest.raises(UsageError, match="multiple"):
        model.codec.stream().encode(np.zeros(7, np.float32))


def test_context_is_told(model, checkpoint_reference):
    config = json.loads((checkpoint_reference.folder / "config.json").read_text())
    assert model.spec.context == config["context"]
    assert model.spec.text_vocabulary == config["text_card"]
    assert attrs.evolve(model.spec, capacity=9).delays == tuple(config["delays"])
