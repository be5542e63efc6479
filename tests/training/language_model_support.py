"""Dialogues with a rule in them, and small language models to train on them."""

import attrs
import numpy as np

from duplex.backends.torch.language_model import LanguageModel
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import Provenance, codec_fingerprint, fingerprint, write_dialogues
from duplex.training.dialogues.tokenizer_training import train_tokenizer
from duplex.training.dialogues.tokens import DialogueTokens
from duplex.training.language_model import TINY_LANGUAGE_MODEL, LanguageModelSettings, train_language_model
from duplex.training.language_model.initialization import initialize
from duplex.training.language_model.segments import SegmentSampler
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from duplex.transcription.alignment import SpecialTokens

MARKS = SpecialTokens()
SMALL = TINY_LANGUAGE_MODEL | {
    "dim": 32,
    "num_heads": 2,
    "num_layers": 2,
    "context": 20,
    "depformer_dim": 16,
    "depformer_dim_feedforward": 48,
    "depformer_num_heads": 2,
    "depformer_num_layers": 2,
}
CONFIG = LanguageModelConfig.from_dict(SMALL, where="here")
QUICK = LanguageModelSettings(steps=6, batch=2, frames=16, warmup=2)


def some_dialogue(frames, seed=0):
    """Tokens with a rule: the agent says the codes that the user said a frame before, and writes the first of them."""
    rng = np.random.default_rng(seed)
    user = np.repeat(rng.integers(0, 4, (8, -(-frames // 2))), 2, axis=1)[:, :frames]
    agent = np.roll(user, 1, axis=1)
    return DialogueTokens(text=user[0] + 10, agent=agent, user=user, user_text=np.full(frames, MARKS.padding))


def some_data(folder):
    """Write two shards of dialogues, as of the built-in codec, and their tokenizer; return the folder."""
    (folder / TOKENIZER).write_bytes(train_tokenizer(0, MARKS))
    provenance = Provenance(
        codec=codec_fingerprint(resolve("tiny", parts=("codec",))),
        tokenizer=fingerprint(folder / TOKENIZER),
        codebooks=8,
        vocabulary=512,
        text_vocabulary=SMALL["text_card"],
        frame_rate=12.5,
        marks=MARKS,
    )
    for index in range(2):
        dialogues = [some_dialogue(40 + seed, seed + 10 * index) for seed in range(8)]
        write_dialogues(folder / f"dialogues-{index:04}.safetensors", dialogues, provenance)
    return folder


def relabelled(data, folder, **changes):
    """Copy dialogues as if they had been made with something else."""
    folder.mkdir()
    provenance = attrs.evolve(SegmentSampler(data, CONFIG, QUICK).provenance, **changes)
    for path in data.glob("*.safetensors"):
        write_dialogues(folder / path.name, [some_dialogue(30)], provenance)
    return folder


def model_of(settings=QUICK):
    """Return a very small language model with its losses, as it is before training."""
    made = LanguageModel(CONFIG)
    initialize(made, settings.seed)
    model = LanguageModelTrainingModule(made, settings)
    model.model.prepare()
    return model


def train(data, out, settings=QUICK, **options):
    """Train a very small language model."""
    return train_language_model(data, out, settings, **{"config": SMALL, "device": "cpu", **options})
