"""Adapters in both backends: what the original computes with them, however they are spelt, stored and quantized.

``tests/data/family/lora`` is an adapter of the reference checkpoint ``small`` (seed 24, rank 4, scaling 1.5), tuned
embeddings for it, and what the original (0.2.13) chooses greedily from the first 40 frames with the adapter
(``adapted.``) and with both (``embeddings.``). It loads the older, stacked spelling to the same tokens.
"""

import json
import re
import shutil

import numpy as np
import pytest
from adapters_support import ADAPTER, FAMILY, WEIGHTS, relative
from safetensors.numpy import load_file

import duplex
from duplex.backends.conversion import convert
from duplex.errors import StateError, WeightsError
from duplex.frame_model import SessionState

FRAMES = 40
STEPWISE = re.compile(r"(.*\.(?:in|out)_proj)s\.(\d+)\.(lora_[AB]\.weight)")


@pytest.fixture(scope="module")
def expected():
    return load_file(ADAPTER / "expected.safetensors")


@pytest.fixture(scope="module")
def tensors():
    """The adapter's own tensors, and those of the embeddings."""
    from safetensors.torch import load_file  # noqa: PLC0415 -- numpy has no bfloat16

    return load_file(ADAPTER / "lora.safetensors"), load_file(ADAPTER / "embeddings.safetensors")


@pytest.fixture(params=["torch", "mlx"])
def backend(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    return request.param


@pytest.fixture
def folder_with(tmp_path):
    """Writes an adapter's folder."""

    def write(tensors):
        from safetensors.torch import save_file  # noqa: PLC0415

        folder = tmp_path / "fine-tune"
        folder.mkdir()
        shutil.copyfile(ADAPTER / "config.json", folder / "config.json")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "lora.safetensors")
        return str(folder)

    return write


@pytest.fixture
def answers(small, run, greedy):
    """What a model chooses, text and codes ``[1 + 4, frames]``."""

    def answer(name, **options):
        with duplex.load(str(name), device="cpu", dtype="float32", **options) as model:
            frames = small.frames[: FRAMES + model.spec.latency_frames]
            return run(model.frame_model, options=greedy).hear(frames).tokens[: 1 + model.spec.agent_streams, :FRAMES]

    return answer


def of(expected, case):
    return np.concatenate([expected[f"{case}.text"][None], expected[f"{case}.audio"]])


def stacked(tensors):
    """The older spelling: the projections of all steps in the rows of one tensor."""
    import torch  # noqa: PLC0415

    parts, others = {}, {}
    for name, tensor in tensors.items():
        if found := STEPWISE.fullmatch(name):
            parts.setdefault(f"{found[1]}.{found[3]}", {})[int(found[2])] = tensor
        else:
            others[name] = tensor
    assert any(len(steps) > 1 for steps in parts.values())
    return others | {name: torch.cat([steps[step] for step in sorted(steps)]) for name, steps in parts.items()}


def test_the_adapter(small, answers, expected, backend):
    assert np.array_equal(answers(small.folder, backend=backend, adapter=str(ADAPTER)), of(expected, "adapted"))


def test_its_text_logits(small, expected, run, greedy):
    logits = []
    with duplex.load(str(small.folder), device="cpu", dtype="float32", adapter=str(ADAPTER)) as model:
        forward = model.frame_model._lm.forward

        def listen(*arguments, **keywords):
            step = forward(*arguments, **keywords)
            logits.append(step.text_logits[0].numpy().copy())
            return step

        model.frame_model.steps.recorded = None  # which would not call it
        model.frame_model._lm.forward = listen
        run(model.frame_model, options=greedy).hear(small.frames[:FRAMES])
    wanted = expected["adapted.text_logits"]
    np.testing.assert_allclose(np.stack(logits)[: len(wanted)], wanted, atol=1e-4)


def test_the_stacked_spelling(small, answers, expected, folder_with, tensors, backend):
    adapter = folder_with(stacked(tensors[0]))
    assert np.array_equal(answers(small.folder, backend=backend, adapter=adapter), of(expected, "adapted"))


def test_whole_embeddings(small, answers, expected, folder_with, tensors, backend):
    adapter = folder_with(tensors[0] | tensors[1])
    assert np.array_equal(answers(small.folder, backend=backend, adapter=adapter), of(expected, "embeddings"))


def test_a_checkpoint_that_names_its_own(small, answers, expected, tmp_path, backend):
    folder = shutil.copytree(small.folder, tmp_path / "model")
    shutil.copyfile(ADAPTER / "lora.safetensors", folder / "mine.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"lora_name": "mine.safetensors", "lora": True, "lora_rank": 4, "lora_scaling": 1.5}
    (folder / "config.json").write_text(json.dumps(config))
    assert np.array_equal(answers(folder, backend=backend), of(expected, "adapted"))


@pytest.mark.parametrize("layout", ["torch", "mlx"])
def test_convert_writes_the_sum(small, answers, tmp_path, layout):
    """In bfloat16: what a model loads from there has no adapter any more, and chooses the same in both backends."""
    pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    rounded = tmp_path / "rounded"
    convert(str(small.folder), rounded, layout=layout)
    convert(str(small.folder), tmp_path / "sum", layout=layout, adapter=str(ADAPTER))
    assert not [key for key in json.loads((tmp_path / "sum" / "config.json").read_text()) if "lora" in key]
    written = answers(tmp_path / "sum", backend="mlx")
    convert(str(tmp_path / "sum"), tmp_path / "back", layout="torch")
    assert np.array_equal(answers(tmp_path / "back", backend="torch"), written)
    assert not np.array_equal(answers(rounded, backend="mlx"), written)


def test_weights_in_the_layout_of_mlx(small, tmp_path):
    """An adapter names tensors as PyTorch does, and is added to the slices that MLX's layout makes of them."""
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    from duplex.backends.mlx.arrays import parameters  # noqa: PLC0415

    for layout in ("torch", "mlx"):
        convert(str(small.folder), tmp_path / layout, layout=layout)
    loaded = []
    for layout in ("torch", "mlx"):
        options = {"backend": "mlx", "device": "cpu", "dtype": "float32"}
        with duplex.load(str(tmp_path / layout), **options, adapter=str(ADAPTER)) as model:
            loaded.append(dict(parameters(model.frame_model._lm)))
    assert loaded[0].keys() == loaded[1].keys()
    assert all(mx.array_equal(array, loaded[1][name]) for name, array in loaded[0].items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_added_before_the_sum_is_quantized(small, folder_with, tensors, dtype):
    import torch  # noqa: PLC0415

    from duplex.backends.torch.loading import read_language_model  # noqa: PLC0415
    from duplex.checkpoints.checkpoint import resolve  # noqa: PLC0415

    found = resolve(str(small.folder), adapter=folder_with(tensors[0]))
    kind = getattr(torch, dtype)
    plain = load_file(small.folder / "model.safetensors")
    module = "transformer.layers.1.gating.linear_in"
    down, up = (tensors[0][f"{module}.lora_{half}.weight"].to(kind) for half in "AB")
    wanted = torch.from_numpy(plain[f"{module}.weight"]).to(kind) + 1.5 * (up @ down)
    options = {"dtype": kind, "device": torch.device("cpu"), "adapter": found.adapter}
    whole = read_language_model(found.language_model, found.weights, **options)
    assert torch.equal(whole.get_parameter(f"{module}.weight"), wanted)
    rounded = read_language_model(found.language_model, found.weights, quantize="int8", **options)
    weight = rounded.get_submodule(module).weight
    assert (weight.wide(torch.float32) - wanted.float()).abs().max() <= weight.scale.max() / 2 + 1e-6


def test_states_go_from_one_backend_to_the_other_but_not_to_other_adapters(small, run, greedy, folder_with, tensors):
    pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    place = {"device": "cpu", "dtype": "float32"}
    other = folder_with(tensors[0] | tensors[1])
    with duplex.load(str(small.folder), backend="torch", adapter=str(ADAPTER), **place) as model:
        run(model.frame_model, options=greedy).hear(small.frames[:9])
        state = model.frame_model.export(0)
        state = SessionState(
            metadata=dict(state.metadata), tensors={name: state.tensors[name] for name in state.tensors}
        )
        going_on = run(model.frame_model, opened=True).hear(small.frames[9:20])
    with duplex.load(str(small.folder), backend="mlx", adapter=str(ADAPTER), **place) as model:
        list(model.frame_model.restore(0, state))
        assert np.array_equal(run(model.frame_model, opened=True).hear(small.frames[9:20]).tokens, going_on.tokens)
    for adapter in (None, other):
        with (
            duplex.load(str(small.folder), adapter=adapter, **place) as model,
            pytest.raises(StateError, match="adapter"),
        ):
            list(model.frame_model.restore(0, state))


def test_a_quantized_base_is_refused(small, tmp_path):
    pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    convert(str(small.folder), tmp_path / "eight", layout="torch", quantize="int8")
    with pytest.raises(WeightsError, match="quantized, and an adapter is added to whole ones"):
        duplex.load(str(tmp_path / "eight"), adapter=str(ADAPTER))


@pytest.mark.parametrize("name", ["hibiki", "hibiki-zero"])
def test_relatives(name, tmp_path, backend):
    """Shared weight sets and keys, conditioners, halves in RoPE: the sum is that of the tensors as published."""
    found, summed, adapter = relative(name, tmp_path)
    if backend == "torch":
        import torch  # noqa: PLC0415

        from duplex.backends.torch.loading import read_language_model  # noqa: PLC0415

        place = {"dtype": torch.float32, "device": torch.device("cpu")}
        whole = read_language_model(found, summed, **place).state_dict()
        adapted = read_language_model(found, FAMILY / name / WEIGHTS, adapter=adapter, **place).state_dict()
    else:
        import mlx.core as mx  # noqa: PLC0415

        from duplex.backends.mlx.arrays import parameters  # noqa: PLC0415
        from duplex.backends.mlx.language_model import load_language_model  # noqa: PLC0415

        kind = {"dtype": mx.float32, "packing": None}
        whole = dict(parameters(load_language_model(found, summed, **kind)))
        adapted = dict(parameters(load_language_model(found, FAMILY / name / WEIGHTS, adapter=adapter, **kind)))
    assert whole.keys() == adapted.keys()
    for key, tensor in whole.items():
        np.testing.assert_allclose(adapted[key].tolist(), tensor.tolist(), atol=1e-5)
