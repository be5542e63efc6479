"""Small random models of Moshi's relatives, with what their published programs compute, and any codec of their size."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from duplex.backends.shared.pieces import finish
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.frame_model import UNGENERATED, Conditions
from duplex.options import SessionOptions

FAMILY = Path(__file__).parents[1] / "data" / "family"
MIMI = FAMILY / "personaplex"
"""What these tests compare are tokens from known codes, so that any codec of this size will do."""
WHOLE = os.environ.get("DUPLEX_FAMILY_REFERENCE")
"""A folder with all of the reference, which is too large for the repository."""
MARGIN = 1e-3
GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0, greedy=True)


def config_of(mapping):
    """Return the language model's part of a ``config.json``."""
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    return LanguageModelConfig.from_dict(own, where="config.json")


def load_family(name, backend, root=FAMILY, **given):
    """Return a frame model and what was expected of it."""
    folder = root / name
    mapping = json.loads((folder / "config.json").read_text())
    loader = importlib.import_module(f"duplex.backends.{backend}")
    choice = {"device": "cpu", "dtype": "float32", "quantize": None, "cache_dtype": "auto", "sessions": 2}
    choice["deterministic"] = False
    model = loader.load_model(
        config_of(mapping),
        MimiConfig.from_dict(json.loads((MIMI / "mimi_config.json").read_text()), where="mimi"),
        weights=folder / mapping["moshi_name"],
        mimi_weights=MIMI / "tokenizer-e351c8d8-checkpoint125.safetensors",
        fingerprint=name,
        **{**choice, **given},
    )
    return model, load_file(folder / "expected.safetensors")


def said(model, slot, heard):
    """Feed the user's codes int64 ``[streams, n]``; return the text and the agent's codes of what came out."""
    spec = model.spec
    tokens = np.full((spec.streams, heard.shape[1]), UNGENERATED)
    tokens[1 + spec.agent_streams :] = heard
    finish(_prefilled(model, slot, tokens))
    columns = model.slots[slot].log.columns.T
    return columns[0], columns[1 : 1 + spec.agent_streams]


def _prefilled(model, slot, tokens):
    model.prefill(slot, tokens)
    yield


def encoder_state(model, slot):
    """Return the state of the codec's encoder, by name: what it remembers of the audio that it has heard."""
    tensors = model.export(slot).tensors
    return {key: np.array(tensors[key]) for key in tensors if key.startswith("mimi.encoder")}


def voices_of(folder, **words):
    """Return the conditions of speech synthesis: words, and the voices of a checkpoint, of five at most."""
    voices = [load_file(path)["speaker_wavs"][0].T for path in sorted((folder / "voices").iterdir())]
    absent = np.zeros(((5 - len(voices)) * len(voices[0]), voices[0].shape[1]), np.float32)
    vectors = np.concatenate([*voices, absent])
    there = np.arange(len(vectors)) < len(vectors) - len(absent)
    return Conditions(words=words, vectors={"speaker_wavs": vectors}, masks={"speaker_wavs": there})
