"""Make what docs/built-in-model.md plays of codecs: python docs/make_voice.py before=FOLDER now=tiny (extra `train`).

The agent's voice says two sentences that no training had; `original` is that, the others are what is left of it in a
codec's 0.9 kbit/s. All become MP3 files in docs/conversation, and spectrograms in docs/images/voice.png.
"""

import sys
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import duplex
from duplex.training.data.voices import AGENT_VOICE

FOLDER = Path(__file__).parent / "conversation"
IMAGE = Path(__file__).parent / "images" / "voice.png"
RATE = 24000
SHOWN = slice(round(0.55 * RATE), round(2.2 * RATE))
"""Samples in the spectrograms."""
SPECTROGRAM = {"Fs": RATE, "NFFT": 1024, "noverlap": 896, "cmap": "magma", "vmin": -110, "vmax": -30}
HIGHEST = 6000
TEXT = "The old clock in the hall has not been right for years. Would you like some tea while you wait?"
FRAME = 1920
BIT_RATE = 64000


def write_mp3(path: Path, pcm: NDArray[np.float32]) -> None:
    """Write one voice."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(pcm[None].clip(-1, 1), "fltp", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def draw(sounds: dict[str, NDArray[np.float32]]) -> None:
    """Draw the beginning of each."""
    mpl.use("agg")
    figure, places = plt.subplots(len(sounds), sharex=True, figsize=(8, 6), layout="constrained")
    for place, (name, pcm) in zip(places, sounds.items(), strict=True):
        place.specgram(pcm[SHOWN], **SPECTROGRAM)
        place.set(title=name, ylim=(0, HIGHEST), ylabel="Hz")
    places[-1].set_xlabel("s")
    figure.savefig(IMAGE, dpi=90)


def main() -> None:
    """Make them."""
    pcm = AGENT_VOICE.speak(TEXT, np.random.default_rng(0))
    pcm = np.pad(pcm, (3 * FRAME, 3 * FRAME + -len(pcm) % FRAME)).astype(np.float32)
    sounds = {"original": pcm}
    for argument in sys.argv[1:]:
        name, _, checkpoint = argument.partition("=")
        codec = duplex.load_codec(checkpoint, device="cpu")
        sounds[name] = codec.decode(codec.encode(pcm))
    for name, sound in sounds.items():
        write_mp3(FOLDER / f"voice-{name}.mp3", sound)
    draw(sounds)


if __name__ == "__main__":
    main()
