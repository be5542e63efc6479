"""Measure how well a codec carries speech: words, sound, codebooks, round trips, silence, speed, phonemes.

    python benchmarks/codec_quality.py [--model tiny|DIR] [--sentences 60] [--out results.json] [--json]
        [--original PYTHON] [--probe-minutes 30]

DIR is a folder with mimi_config.json and the codec's weights. Needs the extra `train`, the group `benchmark`, and the
programs flite and espeak-ng; with the packages speechmos, librosa and pandas it also tells DNSMOS. Speech is made on
the spot, the same each time: the agent's voice says all sentences of unseen_sentences.txt, three voices that no
training data has say half of them, and recordings of a woman are taken from the Debian package
asterisk-core-sounds-en-wav, if it is installed. `--original` compares with the original package in another environment,
whose interpreter it names. `--probe-minutes` is the length of the speech that the phoneme probe learns from; 0 skips
it. With `--json` the figures are printed as JSON instead of tables.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from codec_measures import clipping, codebook_use, generations, naturalness, silence, sound, speed, words
from codec_original import against_original
from codec_paths import Heard, hear, load_codec
from codec_probe import probe
from codec_speech import Listener, human, progress, sentences, spoken
from codec_tables import tables
from duplex.backends.torch.codec import TorchCodec
from duplex.training.data.voices import AGENT_VOICE, HELD_OUT_VOICES

HUMAN = "human"
HUMAN_RECORDINGS = 25
COMPARED_SECONDS = 30


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--sentences", type=int, default=60, help="of the agent; a third are sent round and round")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--original", metavar="PYTHON", help="an environment's interpreter that has moshi 0.2.13")
    parser.add_argument("--probe-minutes", type=float, default=30)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


def hear_all(codec: TorchCodec, listener: Listener, count: int) -> list[Heard]:
    """Send every voice along all paths: the agent first, humans last."""
    voices: list[Heard] = []
    for voice in (AGENT_VOICE, *HELD_OUT_VOICES):
        progress(f"speech: {voice.name}")
        texts = sentences(count if voice is AGENT_VOICE else -(-count // 2))
        voices.append(hear(codec, voice.name, spoken(voice, texts)))
    progress(f"speech: {HUMAN}")
    recordings = human(listener, min(HUMAN_RECORDINGS, count))
    if recordings:
        voices.append(hear(codec, HUMAN, recordings))
    else:
        progress("no human recordings here; install them with: apt-get install asterisk-core-sounds-en-wav")
    return voices


def measure(codec: TorchCodec, listener: Listener, voices: list[Heard]) -> dict[str, Any]:
    """Return the figures that need no training."""
    agent, *others = voices
    figures: dict[str, Any] = {
        "spec": {"codebooks": codec.spec.codebooks, "vocabulary": codec.spec.vocabulary},
        "bitrate": {"codec": codec.spec.bitrate, "opus": float(np.mean([heard.opus_bitrate for heard in voices]))},
        "words": {},
        "sound": {},
        "naturalness": {},
    }
    for heard in voices:
        progress(f"words and sound: {heard.voice}")
        figures["words"][heard.voice] = words(heard, listener)
        figures["sound"][heard.voice] = sound(heard)
        figures["naturalness"][heard.voice] = naturalness(heard)
    progress("codebooks, round trips, silence, peaks, speed")
    unseen = [codes for heard in others for codes in heard.codes]
    speech = np.concatenate(agent.sounds["original"])
    return figures | {
        "codebooks": {
            "agent": codebook_use(agent.codes, codec.spec.vocabulary),
            "unseen": codebook_use(unseen, codec.spec.vocabulary),
        },
        "generations": generations(codec, agent, listener, -(-len(agent.texts) // 3)),
        "silence": silence(codec, agent.sounds["original"][0]),
        "clipping": clipping(codec, voices),
        "speed": speed(codec, speech),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse()
    codec, listener = load_codec(arguments.model), Listener()
    voices = hear_all(codec, listener, arguments.sentences)
    figures = {"model": arguments.model, **measure(codec, listener, voices)}
    if arguments.probe_minutes:
        figures["probe"] = probe(codec, voices, arguments.probe_minutes)
    if arguments.original:
        progress("the original package")
        speech = np.concatenate([pcm for heard in voices for pcm in heard.sounds["original"][:3]])
        speech = speech[: COMPARED_SECONDS * codec.spec.sample_rate]
        figures["against_original"] = against_original(codec, arguments.model, arguments.original, speech)
    written = json.dumps(figures, indent=1, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(written + "\n", encoding="utf-8")
    if arguments.json:
        print(written)
    else:
        for table in tables(figures):
            Console(width=120).print(table)


if __name__ == "__main__":
    main()
