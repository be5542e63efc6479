"""Seats of a model that says texts: suspended before there is sound and after, and resumed where they were."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from engine_support import Desk

from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.engine.engine import Engine
from duplex.engine.outcomes import Exported, ScriptProgress
from duplex.options import SessionOptions
from duplex.synthesis.script import Entry

FAMILY = Path(__file__).parents[1] / "data" / "family"
FOLDER, CODEC = FAMILY / "tts", FAMILY / "personaplex"
GREEDY = SessionOptions(temperature=0, text_temperature=0, top_k=0, text_top_k=0, seed=0, guidance=1, greedy=True)
ENTRIES = [Entry((tokens, 9), str(tokens), 2) for tokens in range(10, 30)]
STEPS = 30


@pytest.fixture(scope="module", params=["torch", "mlx"])
def engine(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    mapping = json.loads((FOLDER / "config.json").read_text())
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    engine = Engine(
        importlib.import_module(f"duplex.backends.{request.param}").load_model(
            LanguageModelConfig.from_dict(own, where="tts"),
            MimiConfig.from_dict(json.loads((CODEC / "mimi_config.json").read_text()), where="mimi"),
            weights=FOLDER / mapping["moshi_name"],
            mimi_weights=CODEC / "tokenizer-e351c8d8-checkpoint125.safetensors",
            fingerprint="tts",
            device="cpu",
            dtype="float32",
            quantize=None,
            cache_dtype="auto",
            sessions=2,
            deterministic=False,
            tts=TtsConfig(**mapping["tts_config"]),
        )
    )
    yield engine
    engine.close()


def say(engine, desk):
    """Let a seat say the entries, when the model has opened it."""

    def job():
        while not desk.seat.ready:
            yield
        engine.model.say(desk.seat.slot, ENTRIES)
        desk.seat.wake()

    engine.submit(job())
    desk.until(lambda _: desk.seat.ready)


def step(desk, count):
    """Push silence, a frame at a time, and wait for each."""
    for _ in range(count):
        before = len(progress(desk))
        desk.seat.push(np.zeros(1920, np.float32))
        desk.until(lambda _, before=before: len(progress(desk)) > before)


def progress(desk):
    return [result for result in desk.results if isinstance(result, ScriptProgress)]


@pytest.mark.parametrize("at", [1, 3, 20])
def test_suspended_and_resumed(engine, at):
    whole = Desk(engine, options=GREEDY)
    say(engine, whole)
    step(whole, at)
    whole.seat.export()
    whole.until_kind(Exported)
    resumed = Desk(engine, options=GREEDY, state=whole.last(Exported).state)
    heard, said = len(whole.frames), len(progress(whole))
    for desk in (whole, resumed):
        step(desk, STEPS - at)
        desk.seat.close()
    assert progress(resumed) == progress(whole)[said:]
    assert progress(whole)[-1].words > 2
    assert [frame.at for frame in resumed.frames] == [frame.at for frame in whole.frames[heard:]]
    for ours, theirs in zip(resumed.frames, whole.frames[heard:], strict=True):
        np.testing.assert_array_equal(ours.agent, theirs.agent)
        np.testing.assert_allclose(ours.agent_pcm, theirs.agent_pcm, atol=1e-5)
