"""What the tests of checkpoint share."""

import io
import json

import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import save

MIMI = "tokenizer-e351c8d8-checkpoint125.safetensors"


MODEL_CONFIG = {
    "dim": 64,
    "num_heads": 4,
    "num_layers": 2,
    "n_q": 4,
    "dep_q": 2,
    "card": 16,
    "text_card": 300,
    "delays": [0, 0, 1, 0, 1],
    "context": 20,
}


OTHER_KEYS = {
    "moshi_name": "model.safetensors",
    "mimi_name": MIMI,
    "mimi_config_name": "mimi_config.json",
    "tokenizer_name": "spm.model",
    "model_type": "moshi",
    "model_id": {"sig": "00", "epoch": 1},
    "lm_gen_config": {"temp": 0.5, "temp_text": 0.4, "top_k": 10, "top_k_text": 5},
}


MIMI_CONFIG = {"quantizer": {"n_q": 4, "bins": 16}}


def tokenizer_bytes():
    model = io.BytesIO()
    sentences = iter([f"word number {n} of many" for n in range(50)])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        vocab_size=300,
        byte_fallback=True,
        pad_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


TOKENIZER = tokenizer_bytes()


def weights(seed=0):
    random = np.random.default_rng(seed)
    return {"a": random.standard_normal((50, 700), np.float32), "b": np.zeros(3, np.float16)}


def checkpoint_files(**changes):
    """A small checkpoint in the published layout: file names to bytes. ``None`` leaves a key out."""
    config = {key: value for key, value in (MODEL_CONFIG | OTHER_KEYS | changes).items() if value is not None}
    return {
        "config.json": json.dumps(config).encode(),
        "mimi_config.json": json.dumps(MIMI_CONFIG).encode(),
        "model.safetensors": save(weights(0), {"format": "pt"}),
        MIMI: save(weights(1)),
        "spm.model": TOKENIZER,
    }


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model", checkpoint_files())
