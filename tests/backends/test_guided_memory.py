"""What sessions with guidance are told to take: their second rows too, by both backends alike."""

import json

import attrs
import numpy as np
import pytest
from family_support import FAMILY, GREEDY, MIMI, config_of, load_family

from duplex.backends import mlx, torch
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.weights_file import read_header
from duplex.frame_model import Conditions

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
memory = pytest.importorskip("duplex.backends.mlx.memory")

MIMI_CONFIG = MimiConfig.from_dict(json.loads((MIMI / "mimi_config.json").read_text()), where="mimi")
MIMI_WEIGHTS = MIMI / "tokenizer-e351c8d8-checkpoint125.safetensors"
GUIDED = [("hibiki", {}), ("tts-cfg", {"tts": TtsConfig(audio_delay=0.32, second_stream_ahead=2)})]


def session_of(backend, name, *, guidance):
    """Return the bytes that a session of a model is told to take."""
    mapping = json.loads((FAMILY / name / "config.json").read_text())
    headers = read_header(FAMILY / name / mapping["moshi_name"]), read_header(MIMI_WEIGHTS)
    chosen = {"device": "cpu", "dtype": "float32", "quantize": None, "cache_dtype": "auto", "sessions": 2}
    told = backend.predict_memory(config_of(mapping), MIMI_CONFIG, headers, guidance=guidance, **chosen)
    assert told.total >= told.weights + 2 * told.session
    return told.session


@pytest.mark.parametrize("name", ["hibiki", "tts-cfg"])
def test_a_second_row_is_as_large_by_either_backend(name):
    """But for what is added to its input, which only one of them counts."""
    second = [session_of(each, name, guidance=True) - session_of(each, name, guidance=False) for each in (mlx, torch)]
    assert second[0] > 0
    assert second[0] == pytest.approx(second[1], rel=0.01)


@pytest.mark.parametrize(("name", "given"), GUIDED)
def test_a_session_of_torch_takes_what_it_is_told_to(name, given):
    """But for the last codes of a voice, some hundred bytes, of which there are more where sound comes later."""
    for guidance in (False, True):
        model, _ = load_family(name, "torch", sessions=2, guidance=guidance, **given)
        held = sum(tensor.nbytes for tensor in model.state.tensors.values())
        assert held == pytest.approx(2 * session_of(torch, name, guidance=guidance), rel=5e-4)
        model.close()


@pytest.mark.parametrize(("name", "given"), GUIDED)
def test_a_second_row_of_mlx_takes_what_it_is_told_to(name, given):
    """With as many vectors of voices as there may be."""
    model, _ = load_family(name, "mlx", sessions=2, **given)
    vectors = {"speaker_wavs": np.ones((625, 12), np.float32)} if name == "tts-cfg" else {}
    for slot, guidance in enumerate((1.0, 2.0)):
        model.open(slot, attrs.evolve(GREEDY, guidance=guidance), Conditions(vectors=vectors))
    plain, guided = (sum(array.nbytes for array in state.values()) for state in model.state)
    told = session_of(mlx, name, guidance=True) - session_of(mlx, name, guidance=False)
    assert guided - plain == pytest.approx(told, rel=0.01)
    model.close()


def test_room_for_second_rows_is_looked_at_before_loading(monkeypatch):
    """On a machine for four sessions without, and not for four with guidance."""
    mapping = json.loads((FAMILY / "hibiki" / "config.json").read_text())
    headers = read_header(FAMILY / "hibiki" / mapping["moshi_name"]), read_header(MIMI_WEIGHTS)
    chosen = {"dtype": "float32", "quantize": None, "sessions": 4, "device": mx.default_device()}
    there = memory.predict(config_of(mapping), *headers, **chosen).total
    monkeypatch.setattr(memory, "available", lambda _: there)
    load_family("hibiki", "mlx", sessions=4)[0].close()
    with pytest.raises(mlx.UsageError, match=r"4 sessions of this model need .* sessions=1 would fit"):
        load_family("hibiki", "mlx", sessions=4, guidance=True)
