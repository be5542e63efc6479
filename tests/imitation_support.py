"""A small model of synthesis that takes its voice from a recording, as a whole checkpoint.

It is that of ``tts-cfg`` without its conditions; ``imitation.json`` is what the published program (moshi 0.2.13) made
of it after the first twelve frames of PersonaPlex's example voice: greedy, float32, on a CPU.
"""

import json
import shutil
import wave
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

FAMILY = Path(__file__).parent / "data" / "family"
EXPECTED = json.loads((FAMILY / "synthesis" / "imitation.json").read_text())
CONDITIONED = ("condition_provider", "cross_attention", "norm_cross")
MIMI, TOKENIZER = "tokenizer-e351c8d8-checkpoint125.safetensors", "tokenizer_spm_8k_en_fr_audio.model"
RATE, FRAME = 24_000, 1920


def write_checkpoint(folder, name, *, conditions=True):
    """Write a checkpoint with its codec, tokenizer and voices; without ``conditions`` one that imitates."""
    mapping = json.loads((FAMILY / name / "config.json").read_text())
    tensors = load_file(FAMILY / name / mapping["moshi_name"])
    if conditions:
        shutil.copytree(FAMILY / name / "voices", folder / "voices")
    else:
        none = {"cross_attention_pos_emb": False, "sum": [], "cross": []}
        mapping |= {"conditioners": {}, "cross_attention": False, "fuser": mapping["fuser"] | none}
        tensors = {key: value for key, value in tensors.items() if not any(part in key for part in CONDITIONED)}
    save_file(tensors, folder / mapping["moshi_name"])
    (folder / "config.json").write_text(json.dumps(mapping))
    for part in (MIMI, "mimi_config.json"):
        shutil.copy(FAMILY / "personaplex" / part, folder)
    shutil.copy(FAMILY / "synthesis" / TOKENIZER, folder)
    return folder


def write_voice(path, frames=12):
    """Write the beginning of the example voice."""
    with wave.open(str(FAMILY / "personaplex" / "voices" / "voice.wav")) as voice:
        held = voice.readframes(frames * FRAME)
    write_wav(path, np.frombuffer(held, np.int16))
    return path


def write_wav(path, samples, rate=RATE):
    """Write int16 samples as a recording of one channel."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path
