"""Adapters of their own for sessions of one model: each as a model with that adapter merged, in one batch.

``one`` is the reference adapter (rank 4), ``two`` a random one of another rank, for some of the matrices: of the depth
transformer's weight sets only one.
"""

import json

import attrs
import numpy as np
import pytest
import torch
from adapters_support import ADAPTER, FAMILY, WEIGHTS, relative
from safetensors.numpy import save_file

import duplex
from cli_support import noise, write_wav
from duplex.backends.torch.adapted import Adapted, LowRankSum, gathered, grouped
from duplex.backends.torch.adapter_bank import adapter_numbers
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.loading import load_language_model
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.backends.torch.unfilled import unfilled
from duplex.engine.side_by_side import predict_side_by_side
from duplex.errors import StateError, UsageError
from duplex.frame_model import SessionState
from duplex.options import SessionOptions

PLACE = {"backend": "torch", "device": "cpu", "dtype": "float32"}
FRAMES = 24
SOME = {
    "transformer.layers.0.gating.linear_in": (64, 352),
    "transformer.layers.1.self_attn.in_projs.0": (64, 192),
    "transformer.layers.1.self_attn.out_projs.0": (64, 64),
    "depformer.layers.0.self_attn.in_projs.2": (32, 96),
    "depformer.layers.1.self_attn.out_projs.1": (32, 32),
    "linears.3": (32, 64),
    "text_linear": (64, 96),
}
"""Inputs and outputs of the matrices that ``two`` changes."""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    random, tensors = np.random.default_rng(3), {}
    for module, (inputs, outputs) in SOME.items():
        tensors[f"{module}.lora_A.weight"] = random.standard_normal((7, inputs)).astype(np.float32) / 4
        tensors[f"{module}.lora_B.weight"] = random.standard_normal((outputs, 7)).astype(np.float32) / 4
    path = tmp_path_factory.mktemp("adapters") / "two.safetensors"
    save_file(tensors, path)
    return str(path)


@pytest.fixture(scope="module")
def model(small, two):
    with duplex.load(str(small.folder), **PLACE, sessions=3, adapters={"one": str(ADAPTER), "two": two}) as model:
        yield model


def having(options, adapter):
    return attrs.evolve(options, adapter=adapter)


def together(run, model, adapters, options, frames):
    """Hold a conversation in each slot, in one batch."""
    held = [run(model, slot, having(options, adapter)) for slot, adapter in enumerate(adapters)]
    everyone = np.ones(len(adapters), np.bool_)
    for frame in frames:
        result = model.step(np.stack([frame] * len(adapters)), everyone)
        for each in held:
            each.take(result)
    return held


def added_numbers(lm):
    """Return how many numbers lie beside a language model's weights."""
    found = set() if lm.adapters.text is None else {lm.adapters.text}
    for value in (value for module in lm.modules() for value in vars(module).values()):
        found |= {each.added for each in (value if isinstance(value, tuple) else [value]) if isinstance(each, Adapted)}
    assert all(isinstance(each, LowRankSum) for each in found)
    return sum(each.down.numel() + each.up.numel() for each in found)


def copied(state):
    tensors = {name: np.array(state.tensors[name]) for name in state.tensors}
    return SessionState(metadata=dict(state.metadata), tensors=tensors)


def test_each_is_as_if_its_adapter_were_merged(small, run, greedy, model, two):
    frames = small.frames[:FRAMES]
    held = together(run, model.frame_model, ["one", "two", None], greedy, frames)
    for adapter, mine in zip([str(ADAPTER), two, None], held, strict=True):
        with duplex.load(str(small.folder), **PLACE, adapter=adapter) as merged:
            alone = run(merged.frame_model, options=greedy).hear(frames)
        assert np.array_equal(mine.tokens, alone.tokens)
        np.testing.assert_allclose(np.array(mine.pcm), np.array(alone.pcm), atol=1e-4)
    assert len({each.tokens.tobytes() for each in held}) == 3


def test_who_has_none_has_what_a_plain_model_gives(small, run, sampled, model):
    frames = small.frames[:FRAMES]
    with duplex.load(str(small.folder), **PLACE, sessions=3) as plain:
        wanted = together(run, plain.frame_model, [None] * 3, sampled, frames)
    assert together(run, model.frame_model, [None] * 3, sampled, frames) == wanted
    assert together(run, model.frame_model, ["two", None, "one"], sampled, frames)[1] == wanted[1]


def test_a_step_is_recorded_once_for_whatever_adapters(model, run, sampled, small):
    together(run, model.frame_model, ["one", None, "two"], sampled, small.frames[:2])
    together(run, model.frame_model, ["two", "two", "two"], sampled, small.frames[:2])
    programs = model.frame_model.steps.recorded._programs
    kinds = [kind for kind in programs if kind[0]]
    assert sorted(kinds) == [(True, 0, False), (True, 0, True)]
    assert all(programs[kind].program is not None for kind in kinds)


def test_known_columns_are_read_with_it(small, run, greedy, model, two):
    frames = small.frames[:FRAMES]
    history = run(model.frame_model, options=greedy).hear(frames[:9]).tokens
    after = []
    with duplex.load(str(small.folder), **PLACE, adapter=two) as merged:
        for each, options in ((merged, greedy), (model, having(greedy, "two"))):
            each.frame_model.open(0, options)
            each.frame_model.prefill(0, history)
            after.append(run(each.frame_model, opened=True).hear(frames[9:]).tokens)
    assert np.array_equal(*after)


def test_a_state_goes_on_with_the_same_adapter_under_any_name(small, run, sampled, model, two):
    frames = small.frames[:FRAMES]
    run(model.frame_model, 1, having(sampled, "two")).hear(frames[:9])
    state = copied(model.frame_model.export(1))
    wanted = run(model.frame_model, 1, opened=True).hear(frames[9:])
    list(model.frame_model.restore(0, state))
    assert run(model.frame_model, 0, opened=True).hear(frames[9:]) == wanted
    with duplex.load(str(small.folder), **PLACE, sessions=3, adapters={"other": str(ADAPTER), "mine": two}) as renamed:
        list(renamed.frame_model.restore(1, state))
        assert run(renamed.frame_model, 1, opened=True).hear(frames[9:]) == wanted
        again = copied(renamed.frame_model.export(1))
        assert again.metadata["adapter"] == state.metadata["adapter"]
    for adapters in (None, {"two": str(ADAPTER)}):
        with (
            duplex.load(str(small.folder), **PLACE, adapters=adapters) as without,
            pytest.raises(StateError, match="adapter of its own, with which this model was not loaded"),
        ):
            list(without.frame_model.restore(0, state))


def test_the_memory_of_several_is_predicted(small, model, two):
    """Whichever of them changes a matrix, all of them have something there."""
    with duplex.load(str(small.folder), **PLACE, sessions=3) as plain:
        assert model.memory - plain.memory == 4 * added_numbers(model.frame_model._lm)
    adapters = {"one": str(ADAPTER), "two": two}
    (shared,) = predict_side_by_side([(str(small.folder), {**PLACE, "sessions": 3, "adapters": adapters})])
    assert shared.total == model.memory


@pytest.mark.anyio
async def test_conversations_choose(small, model):
    assert model.adapters == ("one", "two")
    heard = []
    for adapter in ("one", None):
        options = SessionOptions(adapter=adapter, seed=1)
        async with duplex.Conversation(model, options=options) as conversation:
            events = [event async for event in conversation.run(small.frames[:6].ravel())]
        heard.append(np.concatenate([event.pcm for event in events if isinstance(event, duplex.AgentAudio)]))
    assert heard[0].shape == heard[1].shape
    assert not np.array_equal(*heard)
    with pytest.raises(UsageError, match="no adapter 'three' for its sessions; choose one of one, two"):
        duplex.Conversation(model, options=SessionOptions(adapter="three"))
    with pytest.raises(UsageError, match="no adapter 'three'"):
        model.frame_model.open(0, having(model.defaults, "three"))


@pytest.mark.anyio
async def test_recordings_know_which_it_was(model, two, small, tmp_path):
    """By its content: another one of the same name makes other results."""
    sound = tmp_path / "in.wav"
    write_wav(sound, noise(0.4))
    told = []
    with duplex.load(str(small.folder), **PLACE, adapters={"one": two}) as other:
        for each in (model, model, other):
            (result,) = await duplex.process.process(
                each, [sound], tmp_path / "out", options=SessionOptions(adapter="one", seed=0)
            )
            run = json.loads((result.folder / "run.json").read_text())
            told.append((result.status, run["options"]["adapter_fingerprint"]))
    assert [status for status, _ in told] == ["done", "skipped", "done"]
    assert told[0][1] == told[1][1] != told[2][1]


def test_rounded_weights(small, run, sampled, two):
    """The products are added to what the rounded weights give, and are whole themselves."""
    frames = small.frames[:9]
    options = {**PLACE, "sessions": 2, "quantize": "int8"}
    with duplex.load(str(small.folder), **options) as plain:
        wanted = together(run, plain.frame_model, [None, None], sampled, frames)
    with duplex.load(str(small.folder), **options, adapters={"two": two}) as model:
        held = together(run, model.frame_model, [None, "two"], sampled, frames)
    assert held[0] == wanted[0]
    assert not np.array_equal(held[1].tokens, wanted[1].tokens)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapters": {"a b": str(ADAPTER)}}, "'a b' is no name for an adapter"),
        ({"adapters": {"one": str(ADAPTER)}, "adapter": str(ADAPTER)}, "give one"),
        ({"adapters": {"one": str(ADAPTER / "embeddings.safetensors")}}, "'one' replaces '.*', which a session cannot"),
    ],
)
def test_refused(small, given, message):
    with pytest.raises(UsageError, match=message):
        duplex.load(str(small.folder), **PLACE, **given)


def test_mlx_has_one_for_all(small):
    pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    with pytest.raises(UsageError, match="need the torch backend"):
        duplex.load(str(small.folder), backend="mlx", adapters={"one": str(ADAPTER)})


def test_a_model_without_any(small):
    with (
        duplex.load(str(small.folder), **PLACE) as plain,
        pytest.raises(UsageError, match="no adapter 'one' for its sessions; load it with adapters="),
    ):
        duplex.Conversation(plain, options=SessionOptions(adapter="one"))


@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_gathered_rows_are_those_of_the_groups(shape):
    """As a captured graph computes them, and as a CPU does."""
    torch.manual_seed(0)
    x, y = torch.randn(*shape), torch.randn(*shape[:-1], 6)
    down, up, numbers = torch.randn(3, 4, 8), torch.randn(3, 6, 4), torch.tensor([2, 0, 3, 2, 0])
    used = torch.tensor([2, 3])
    told = grouped(y, x, down, up, used, numbers == used[:, None])
    torch.testing.assert_close(told, gathered(y, x, down, up, numbers))
    assert torch.equal(told[1], y[1])
    assert not torch.equal(told[0], y[0])


@torch.inference_mode()
def test_relatives_whose_rows_lie_otherwise(tmp_path):
    """Shared keys in both transformers and halves in RoPE: of B the rows go where those of the weights do."""
    config, summed, adapter = relative("hibiki-zero", tmp_path)
    kind = {"dtype": torch.float32, "device": torch.device("cpu")}
    options = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0, guidance=1.0)
    told = []
    for weights, adapters in ((summed, None), (FAMILY / "hibiki-zero" / WEIGHTS, {"own": adapter})):
        lm = load_language_model(config, weights, **kind, adapters=adapters)
        if adapters:
            with unfilled():
                assert added_numbers(lm) == adapter_numbers(LanguageModel(config), config, [adapter.info])
        state = SlotState.allocate(bind(lm, "lm"), 1, dtype=torch.float32, device=torch.device("cpu"))
        chosen = attrs.evolve(options, adapter="own" if adapters else None)
        lm.begin(Call(state), chosen)
        sampling = Sampling.of([chosen])
        user = torch.arange(config.n_q - config.dep_q)[None]
        steps = [lm(None if step == 0 else user, Call(state), sampling) for step in range(4)]
        told.append(torch.stack([step.text_logits for step in steps]))
    torch.testing.assert_close(*told, atol=1e-4, rtol=1e-4)
