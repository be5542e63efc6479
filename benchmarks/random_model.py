"""Write a checkpoint of random weights, in the published layout, in the shape of the built-in model or of another.

    python benchmarks/random_model.py --out DIR [--shape tiny|300m] [--codec tiny|published] [--seed 0]
        [--gain 1.6] [--branches 1] [--kind moshi|personaplex|stt]

It loads like a trained one and costs what a trained one costs, and says nothing.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import nn

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.state import Call
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.training import TINY_CODEC
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL

MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"
TOKENIZER_NAME = "tokenizer_spm.model"
PEAK = 0.1

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "300m": {
        "dim": 1024,
        "num_heads": 16,
        "num_layers": 16,
        "hidden_scale": 4.125,
        "context": 3000,
        "depformer_dim": 512,
        "depformer_dim_feedforward": 2112,
        "depformer_num_heads": 8,
        "depformer_num_layers": 4,
    },
}
"""What differs from the built-in model."""
KINDS: dict[str, dict[str, Any]] = {
    "moshi": {},
    "personaplex": {
        "model_type": "personaplex",
        "n_q": 16,
        "dep_q": 16,
        "delays": [0, *([0] + [1] * 7) * 2],
    },
    "stt": {"model_type": "stt", "n_q": 32, "dep_q": 0, "delays": [0] * 33, "context": 750},
}
"""What differs from a Moshi: PersonaPlex predicts the user's streams too, eight on either side; a recogniser none."""
TOLD: dict[str, dict[str, Any]] = {
    "stt": {
        "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
        "lm_gen_config": {"temp": 0.0, "temp_text": 0.0, "top_k": 250, "top_k_text": 50},
    },
}
"""What differs of the configuration beside the language model's own."""
CODECS: dict[str, dict[str, Any]] = {"tiny": TINY_CODEC, "published": {"quantizer": {"n_q": 32, "bins": 2048}}}
WORDS = """the a of to and in is you that it he was for on are as with his they at be this have from or one had by but
not what all were we when your can said there use an each which she do how their if will up other about out
many then them these so some her would make like him into time has look two more write go see number no way
could people my than first water been call who oil its now find long down day did get come made may part hello
goodbye yes thanks please good morning evening name sorry question answer speak listen wait again sure okay
well right left today tomorrow monday""".split()  # noqa: SIM905 -- a list of words, written as words


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gain", type=float, default=1.6, help="of the language model's matrices")
    parser.add_argument("--branches", type=float, default=1.0, help="of what a layer adds; 0.18 is usual for 16 layers")
    parser.add_argument("--kind", choices=KINDS, default="moshi")
    parser.add_argument("--codec", choices=CODECS, default="tiny")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(arguments.seed)
    config = TINY_LANGUAGE_MODEL | SHAPES[arguments.shape] | KINDS[arguments.kind]
    config["text_card"] = train_tokenizer(arguments.out / TOKENIZER_NAME, config["text_card"])
    codec = CODECS[arguments.codec]
    config["card"] = codec["quantizer"]["bins"]
    write(arguments.out, config, codec, generator, arguments.gain, arguments.branches)


def write(
    out: Path, config: dict[str, Any], codec: dict[str, Any], generator: torch.Generator, gain: float, branches: float
) -> None:
    """Write the two configurations and the two weights files."""
    kind = config.get("model_type", "moshi")
    language_model = LanguageModel(LanguageModelConfig.from_dict(config, where="language model"))
    randomize(language_model, generator, gain, branches)
    mimi = Mimi(MimiConfig.from_dict(codec, where="mimi"), codebooks=codec["quantizer"]["n_q"])
    randomize(mimi, generator, gain=1.2)
    set_level(mimi, generator)
    names = {
        "moshi_name": "model.safetensors",
        "mimi_name": MIMI_NAME,
        "mimi_config_name": "mimi_config.json",
        "tokenizer_name": TOKENIZER_NAME,
        "model_type": kind,
        "lm_gen_config": {"temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25},
        **TOLD.get(kind, {}),
    }
    (out / "config.json").write_text(json.dumps(config | names, indent=1) + "\n")
    (out / "mimi_config.json").write_text(json.dumps(codec, indent=1) + "\n")
    save(language_model, out / "model.safetensors", torch.bfloat16)
    save(mimi, out / MIMI_NAME, torch.bfloat16 if codec is TINY_CODEC else torch.float32)  # as they are published


def train_tokenizer(path: Path, vocabulary: int) -> int:
    """Train a small tokenizer on random sentences; return its size."""
    rng = np.random.default_rng(0)
    sentences = (" ".join(rng.choice(WORDS, 8)) for _ in range(4000))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_prefix=str(path.with_suffix("")),
        vocab_size=vocabulary,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    path.with_suffix(".vocab").unlink()
    return sentencepiece.SentencePieceProcessor(str(path)).vocab_size()


@torch.no_grad()
def randomize(module: nn.Module, generator: torch.Generator, gain: float, branches: float = 1.0) -> None:
    """Give every tensor values with which signals keep their size through the layers."""
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("cluster_usage") or ("norm" in name and name.endswith(("weight", "alpha"))):
            tensor.fill_(1.0)
        elif name.endswith("embedding_sum"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        elif name.endswith("scale"):
            tensor.fill_(0.2)
        elif tensor.dim() >= 2:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * gain / tensor[0].numel() ** 0.5)
            if ".layers." in name and name.endswith(("out_proj.weight", "linear_out.weight")):
                tensor.mul_(branches)
        else:
            tensor.zero_()


@torch.no_grad()
def set_level(mimi: Mimi, generator: torch.Generator) -> None:
    """Bring the decoder's output to a peak of a tenth of full scale."""
    mimi.quantizer.prepare()
    codes = torch.randint(0, mimi.config.quantizer.bins, (1, mimi.codebooks, 25), generator=generator)
    peak = mimi.decode(codes, Call()).abs().max()
    last = mimi.decoder.model[-1].conv["conv"]
    last.weight.mul_(PEAK / peak)


def save(module: nn.Module, path: Path, dtype: torch.dtype) -> None:
    """Save under the published names."""
    tensors = {name.removeprefix("depth."): tensor for name, tensor in module.state_dict().items()}
    codebooks = [name for name in tensors if name.endswith("_codebook.embedding_sum")]
    # A flag of training that published files have, and that the original asks for.
    tensors |= {name.replace("embedding_sum", "_initialized"): torch.ones(1) for name in codebooks}
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path)


if __name__ == "__main__":
    main()
