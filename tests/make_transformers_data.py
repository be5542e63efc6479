"""Make ``tests/data/transformers``: small checkpoints that Hugging Face transformers saves, and what it computes.

Run it in an environment of its own, with ``torch``, ``transformers`` and ``sentencepiece`` installed::

    python tests/make_transformers_data.py tests/data/transformers

``mimi`` is a codec alone. ``moshi`` is a model with its codec in the same file, whose heads share keys and values. In
``expected.safetensors`` are, of the codec, some audio, its codes and what they decode to; of the model, the same, the
tokens that it was fed, delayed as it wants them, and its logits: of the text at every position, of the audio given the
text and the codes of the position after it.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import MimiConfig, MimiModel, MoshiConfig, MoshiForConditionalGeneration

FRAMES = 5
POSITIONS = 10
CODEC = {
    "hidden_size": 16,
    "num_filters": 2,
    "codebook_size": 32,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "upsample_groups": 16,
    "sliding_window": 40,
}
MODEL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "sliding_window": 40,
    "ffn_dim": 88,
    "num_codebooks": 3,
}
DEPTH = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 44}


def fill(module):
    """Give every weight a value that its tokens depend on: fresh ones leave the codebooks at zero."""
    with torch.no_grad():
        for name, weight in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("cluster_usage"):
                weight.uniform_(0.5, 2.0)
            elif "norm" in name and name.endswith("weight"):
                weight.uniform_(0.5, 1.5)
            elif name.endswith(("layer_scale.scale", "embed_sum")):
                weight.normal_()
            elif weight.ndim > 1 and "quantizer" not in name and "conv" not in name:
                weight.normal_(std=1.5 * weight.shape[-1] ** -0.5)


def codec_values(codec):
    """Return audio, its codes, and what they decode to."""
    audio = torch.randn(1, 1, FRAMES * 1920) * 0.3
    codes = codec.encode(audio, return_dict=True).audio_codes
    decoded = codec.decode(codes, return_dict=True).audio_values
    return {"pcm": audio[0, 0], "codes": codes[0], "decoded": decoded[0, 0]}


def model_values(model, config):
    """Return delayed tokens, int64 [1 + 2 * codebooks, positions], and the logits of what comes after each."""
    streams = config.num_codebooks
    text = torch.randint(0, config.vocab_size, (1, POSITIONS))
    codes = torch.randint(0, config.audio_vocab_size, (1, 2 * streams, POSITIONS))
    text[:, 0], codes[:, :, 0] = config.vocab_size, config.audio_vocab_size
    delayed = [stream for stream in range(2 * streams) if stream % streams]
    codes[:, delayed, 1] = config.audio_vocab_size
    out = model(input_ids=text, moshi_audio_codes=codes[:, :streams], user_audio_codes=codes[:, streams:])
    tokens = torch.cat([text[:, None], codes], dim=1)[0]
    logits_of_audio = []
    for position in range(POSITIONS - 1):
        given = tokens[:streams, position + 1][None]
        context = out.last_hidden_state[:, position : position + 1]
        cache, logits = None, []
        for codebook in range(streams):
            step = model.depth_decoder(
                input_ids=given[:, codebook : codebook + 1], last_hidden_state=context, cache=cache, use_cache=True
            )
            cache = step.cache
            logits.append(step.logits[0, 0])
        logits_of_audio.append(torch.stack(logits))
    pcm = torch.randn(1, 1, FRAMES * 1920) * 0.3
    heard = model.audio_encoder.encode(pcm, num_quantizers=streams, return_dict=True).audio_codes[0]
    audio = {"pcm": pcm[0, 0], "codes": heard, "audio_logits": torch.stack(logits_of_audio)}
    return {**audio, "tokens": tokens, "text_logits": out.logits[0, :-1]}


def main():
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.manual_seed(7)
    codec = MimiModel(MimiConfig(**CODEC)).eval()
    config = MoshiConfig(**MODEL, audio_encoder_config=MimiConfig(**CODEC).to_dict(), depth_decoder_config=DEPTH)
    model = MoshiForConditionalGeneration(config).eval()
    for name, made, values in (
        ("mimi", codec, lambda: codec_values(codec)),
        ("moshi", model, lambda: model_values(model, config)),
    ):
        fill(made)
        made.save_pretrained(folder / name)
        with torch.no_grad():
            save_file(
                {key: value.contiguous() for key, value in values().items()}, folder / name / "expected.safetensors"
            )
        (folder / name / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
