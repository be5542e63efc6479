"""Small things to train on, and small codecs to train."""

import attrs
import numpy as np
import torch

from cli_support import RATE
from duplex.training import CodecSettings, train_codec, trainer
from duplex.training.codec import loop
from duplex.training.codec.training_module import MimiTrainingModule
from duplex.training.data.corpus import Shard, Utterance, write_shard
from duplex.training.run_folder import RunFolder

FRAME = 1920
WIDTH = 8
"""Features of the teacher that stands in for Whisper."""
SHAPE = {
    "seanet": {"dimension": 32, "n_filters": 4, "ratios": [4, 4, 6, 10]},
    "quantizer": {"dimension": 8, "n_q": 4, "bins": 16, "input_dimension": 32, "output_dimension": 32},
    "transformer": {
        "d_model": 32,
        "num_heads": 4,
        "num_layers": 1,
        "dim_feedforward": 64,
        "context": 50,
        "layer_scale": 0.1,
        "input_dimension": 32,
        "output_dimensions": [32],
    },
}
QUICK = CodecSettings(steps=12, batch=2, crop_frames=4, warmup=2, plain_steps=4, learning_rate=2e-3)


def harmonics(seconds, *, seed=0, rate=RATE):
    """Return what is a little like speech, float32 ``[samples]``: syllables of a gliding voice, and pauses."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = sum(np.sin(part * phase + rng.uniform(0, 6)) / part for part in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time) + 0.3, 0, 1)
    sound = sound * syllables + 0.002 * rng.standard_normal(len(time))
    return (0.06 * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def some_shard(*, seconds=4.0, seed=0, voice="heart", role="agent", taught=True, **changes):
    """Return a shard of :func:`harmonics`; what its teacher tells is how loud its frames and those before them are."""
    pcm = harmonics(seconds, seed=seed)
    frames = -(-len(pcm) // FRAME)
    loudness = np.sqrt(np.mean(np.pad(pcm, (0, frames * FRAME - len(pcm))).reshape(frames, FRAME) ** 2, axis=1))
    told = np.stack([np.roll(loudness, shift) for shift in range(WIDTH)], axis=1)
    shard = Shard(
        voice=voice,
        role=role,
        sample_rate=RATE,
        pcm=np.rint(pcm * 2**15).astype(np.int16),
        targets=told.astype(np.float16) if taught else None,
        utterances=(Utterance("La la.", 0, len(pcm)),),
    )
    return attrs.evolve(shard, **changes)


def some_corpus(folder, *, taught=True, seconds=4.0):
    """Write two shards of the agent and two of a user; return the folder."""
    folder.mkdir()
    for seed, (voice, role) in enumerate([("heart", "agent"), ("heart", "agent"), ("slt", "user"), ("slt", "user")]):
        shard = some_shard(seconds=seconds, seed=seed, voice=voice, role=role, taught=taught)
        write_shard(folder / f"{voice}-{seed:04}.safetensors", shard)
    return folder


def shorten(patch, *, plots=False):
    """Have runs of a few steps do all that long ones do, but for the plots, which take longer than the steps."""
    torch.set_num_threads(1)
    patch.setattr(trainer, "LOG_EVERY", 3)
    patch.setattr(loop, "SEEDING_BATCHES", 8)
    if not plots:
        patch.setattr(RunFolder, "plot", lambda _: None)


def train(data, out, settings=QUICK, **options):
    """Train a very small codec."""
    return train_codec(data, out, settings, **{"config": SHAPE, "device": "cpu", **options})


def checkpoint(out):
    """Return where a run stands."""
    return torch.load(out / "checkpoint.pt", weights_only=True)


def in_step(number, action):
    """Return a ``MimiTrainingModule.forward`` that calls ``action`` in the middle of a training step, 1 the first."""
    compute, calls = MimiTrainingModule.forward, []

    def forward(self, *given, **options):
        if self.training:
            calls.append(None)
            if len(calls) == number:
                action()
        return compute(self, *given, **options)

    return forward
