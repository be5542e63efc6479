"""Figures of `codec_quality.py` that need no training: words, sound, codebooks, generations, silence, peaks, speed."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pesq
import torch
from numpy.typing import NDArray

from codec_paths import PATHS, Heard
from codec_speech import PADDING, Listener, resampled
from codec_words import count_errors
from duplex.audio.pcm import level_dbfs
from duplex.backends.torch.codec import TorchCodec
from duplex.training.codec.losses import MultiScaleMelLoss
from duplex.training.data.synthesizers import SAMPLE_RATE

try:
    from speechmos import dnsmos
except ImportError:
    dnsmos = None

__all__ = ["clipping", "codebook_use", "generations", "naturalness", "silence", "sound", "speed", "words"]

Float32 = NDArray[np.float32]
Codes = NDArray[np.int64]
GENERATIONS = (1, 2, 3, 5)
FRAMES_TIMED = 300
WARM_UP = 20
PEAK = 0.98
NATURAL = ("ovrl", "sig", "bak")
NOISE_DBFS = -70.0
_MEL = MultiScaleMelLoss(SAMPLE_RATE)


def words(heard: Heard, listener: Listener) -> dict[str, Any]:
    """Return word error rates on every path, and how far each is above the original's, with its 95 % interval."""
    errors = {path: count_errors(heard.texts, listener.texts(heard.sounds[path])) for path in PATHS}
    figures: dict[str, Any] = {"recordings": len(heard.texts), "words": sum(errors["original"].words)}
    for path, found in errors.items():
        above, low, high = found.above(errors["original"])
        figures[path] = {"errors": sum(found.errors), "rate": found.rate, "above": above, "interval": [low, high]}
    return figures


def sound(heard: Heard) -> dict[str, Any]:
    """Return the mean PESQ (wideband, 1.0 to 4.6) and mel distance of every path to the original."""
    return {path: _compared(heard.sounds["original"], heard.sounds[path]) for path in PATHS[1:]}


def naturalness(heard: Heard) -> dict[str, dict[str, float]] | None:
    """Return DNSMOS (1 to 5, without a reference) on every path: overall, speech and background; ``None`` without it.

    It is that of the package speechmos, which needs librosa and pandas.
    """
    if dnsmos is None:
        return None
    figures: dict[str, dict[str, float]] = {}
    for path in PATHS:
        low = [resampled(np.clip(pcm, -1, 1), SAMPLE_RATE, 16000).clip(-1, 1) for pcm in heard.sounds[path]]
        scores = [dnsmos.run(pcm, sr=16000) for pcm in low]
        figures[path] = {kind: float(np.mean([score[f"{kind}_mos"] for score in scores])) for kind in NATURAL}
    return figures


def _compared(originals: Sequence[Float32], sounds: Sequence[Float32]) -> dict[str, float]:
    pairs = list(zip(originals, sounds, strict=True))
    scores = [_pesq(original, made) for original, made in pairs]
    return {
        "pesq": float(np.mean([score for score in scores if score > 0] or [np.nan])),
        "mel": float(np.mean([mel_distance(original, made) for original, made in pairs])),
    }


def _pesq(original: Float32, made: Float32) -> float:
    """Return the score, or -1 where there is nothing to compare, as in silence."""
    low = [resampled(np.clip(pcm, -1, 1), SAMPLE_RATE, 16000) for pcm in (original, made)]
    return float(pesq.pesq(16000, *low, "wb", on_error=pesq.PesqError.RETURN_VALUES))


@torch.inference_mode()
def mel_distance(original: Float32, made: Float32) -> float:
    """Return the training's mel loss: mean absolute differences of natural log mel magnitudes."""
    return float(_MEL(torch.from_numpy(made)[None], torch.from_numpy(original)[None]))


def codebook_use(codes: Sequence[Codes], vocabulary: int) -> dict[str, Any]:
    """Return each codebook's entropy in bits, perplexity, and share of entries used, where someone speaks."""
    columns = np.concatenate([piece[:, PADDING:-PADDING] for piece in codes], axis=1)
    rows: list[dict[str, float]] = []
    for row in columns:
        counts = np.bincount(row, minlength=vocabulary)
        shares = counts[counts > 0] / counts.sum()
        entropy = float(-(shares * np.log2(shares)).sum())
        rows.append({"entropy": entropy, "perplexity": 2**entropy, "used": float((counts > 0).mean())})
    return {"frames": columns.shape[1], "codebooks": rows}


def generations(codec: TorchCodec, heard: Heard, listener: Listener, count: int) -> dict[str, Any]:
    """Return what is left of the first ``count`` recordings after going through the codec again and again."""
    texts, sounds = heard.texts[:count], heard.sounds["original"][:count]
    first: list[Float32] = []
    before: list[Codes] = []
    figures: dict[str, Any] = {"recordings": count, "words": sum(count_errors(texts, texts).words)}
    for generation in range(1, max(GENERATIONS) + 1):
        codes = [codec.encode(pcm) for pcm in sounds]
        sounds = [codec.decode(piece) for piece in codes]
        first = first or sounds
        if generation in GENERATIONS:
            figures[str(generation)] = {
                "rate": count_errors(texts, listener.texts(sounds)).rate,
                "mel_to_first": float(np.mean([mel_distance(a, b) for a, b in zip(first, sounds, strict=True)])),
                **(_equal(before, codes) if before else {}),
            }
        before = codes
    return figures


def _equal(before: Sequence[Codes], after: Sequence[Codes]) -> dict[str, float]:
    """Return the shares of codes that are as they were a generation ago."""
    same = np.concatenate([a == b for a, b in zip(before, after, strict=True)], axis=1)
    return {"first_equal": float(same[:1].mean()), "others_equal": float(same[1:].mean())}


def silence(codec: TorchCodec, speech: Float32) -> dict[str, float]:
    """Return the level in dBFS of the loudest frame that comes out of silence and of faint noise.

    Frames of the first second, and of the first second after speech, are left out.
    """
    rate = codec.spec.sample_rate
    nothing = np.zeros(10 * rate, np.float32)
    noise = np.random.default_rng(0).normal(scale=10 ** (NOISE_DBFS / 20), size=10 * rate).astype(np.float32)
    after = np.concatenate([speech, np.zeros(5 * rate, np.float32)])
    return {
        "digital_silence": _loudest(codec, nothing, rate),
        "noise_at_-70": _loudest(codec, noise, rate),
        "silence_after_speech": _loudest(codec, after, len(speech) + rate),
    }


def _loudest(codec: TorchCodec, pcm: Float32, start: int) -> float:
    size = codec.spec.frame_size
    made = codec.decode(codec.encode(pcm))[-(-start // size) * size :]
    return max(level_dbfs(frame) for frame in made.reshape(-1, size))


def clipping(codec: TorchCodec, voices: Sequence[Heard]) -> dict[str, float]:
    """Return the largest sample that comes out of speech with a peak of 0.98, and how many are beyond full scale."""
    largest, beyond, samples = 0.0, 0, 0
    for pcm in (pcm for heard in voices for pcm in heard.sounds["original"]):
        made = np.abs(codec.decode(codec.encode(pcm * np.float32(PEAK / np.abs(pcm).max()))))
        largest = max(largest, float(made.max()))
        beyond += int((made > 1).sum())
        samples += len(made)
    return {"largest": largest, "beyond_full_scale": beyond, "samples": samples}


def speed(codec: TorchCodec, speech: Float32) -> dict[str, Mapping[str, float]]:
    """Return median and 95th percentile of the milliseconds that a frame takes on one core."""
    threads, size = torch.get_num_threads(), codec.spec.frame_size
    frames = np.resize(speech, (WARM_UP + FRAMES_TIMED, size))
    stream = codec.stream()
    seconds: list[tuple[float, float]] = []
    torch.set_num_threads(1)
    try:
        for frame in frames:
            start = time.perf_counter()
            codes = stream.encode(frame)
            middle = time.perf_counter()
            stream.decode(codes)
            seconds.append((middle - start, time.perf_counter() - middle))
    finally:
        torch.set_num_threads(threads)
    encode, decode = 1e3 * np.array(seconds[WARM_UP:]).T
    return {
        name: {"median": float(np.median(taken)), "percentile_95": float(np.percentile(taken, 95))}
        for name, taken in (("encode", encode), ("decode", decode))
    }
