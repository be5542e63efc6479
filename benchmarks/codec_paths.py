"""The ways that test speech takes in `codec_quality.py`: through the codec, its autoencoder alone, and Opus.

Each takes float32 ``[n * frame_size]`` at the codec's rate and returns as many samples, in time with what went in.
"""

import io
from collections.abc import Sequence

import attrs
import av
import numpy as np
import torch
from numpy.typing import NDArray

import duplex
from codec_speech import Recording
from duplex.audio.pcm import to_int16
from duplex.backends.torch.codec import TorchCodec
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.training.codec.vector_quantization import bypass

__all__ = ["OPUS_BITRATE", "PATHS", "Heard", "entries", "hear", "load_codec", "opus", "unquantized"]

Float32 = NDArray[np.float32]
OPUS_BITRATE = 6000
PATHS = ("original", "codec", "unquantized", "opus")


@attrs.frozen(eq=False, kw_only=True)
class Heard:
    """One voice's recordings, their codes, and what came back on every path."""

    voice: str
    texts: list[str]
    codes: list[NDArray[np.int64]]
    sounds: dict[str, list[Float32]]
    opus_bitrate: float


def load_codec(name: str) -> TorchCodec:
    """Load a codec whose insides can be reached."""
    codec = duplex.load_codec(name, device="cpu")
    assert isinstance(codec, TorchCodec)  # noqa: S101
    return codec


def hear(codec: TorchCodec, voice: str, recordings: Sequence[Recording]) -> Heard:
    """Send recordings along all paths."""
    originals = [recording.pcm for recording in recordings]
    codes = [codec.encode(pcm) for pcm in originals]
    coded = [opus(pcm, codec.spec.sample_rate) for pcm in originals]
    return Heard(
        voice=voice,
        texts=[recording.text for recording in recordings],
        codes=codes,
        sounds={
            "original": originals,
            "codec": [codec.decode(columns) for columns in codes],
            "unquantized": [unquantized(codec, pcm) for pcm in originals],
            "opus": [pcm for pcm, _ in coded],
        },
        opus_bitrate=float(np.mean([bitrate for _, bitrate in coded])),
    )


@torch.inference_mode()
def unquantized(codec: TorchCodec, pcm: Float32) -> Float32:
    """Return what the autoencoder makes of audio when its codebooks have entries without end."""
    mimi, size = codec.mimi, codec.spec.frame_size
    declared = bind(mimi, "mimi", codec.FRAMES_PER_CALL)
    state = SlotState.allocate(declared, 1, dtype=torch.float32, device=codec.device)
    made: list[Float32] = []
    filled = 0
    # In pieces, as the codec does it: its attention looks a limited time back, and is not made for minutes at once.
    for start in range(0, len(pcm), codec.FRAMES_PER_CALL * size):
        piece = torch.from_numpy(pcm[start : start + codec.FRAMES_PER_CALL * size]).to(codec.device)
        filled += len(piece) // size
        latent = mimi.encode_latents(piece[None], Call(state, filled=filled))
        latent = bypass(mimi.quantizer.rvq_first, latent) + bypass(mimi.quantizer.rvq_rest, latent)
        made.append(mimi.decode_latents(latent, Call(state, filled=filled))[0].cpu().numpy())
    return np.concatenate(made)


def entries(codec: TorchCodec) -> list[torch.Tensor]:
    """Return what the codes of each codebook stand for, ``[vocabulary, dimension]``; the latent is their sum."""
    halves = (codec.mimi.quantizer.rvq_first, codec.mimi.quantizer.rvq_rest)
    return [(half.unproject(codebook.entries)).detach().cpu() for half in halves for codebook in half.codebooks]


def opus(pcm: Float32, rate: int, bitrate: int = OPUS_BITRATE) -> tuple[Float32, float]:
    """Return audio through Opus, and the bits of a second that its packets took."""
    file, size = io.BytesIO(), 0
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono", options={"application": "voip"})
        stream.bit_rate = bitrate
        frame = av.AudioFrame.from_ndarray(to_int16(pcm)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            size += packet.size
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        resampler = av.AudioResampler("flt", "mono", rate)
        frames = [out for decoded in container.decode(audio=0) for out in resampler.resample(decoded)]
        sound = np.concatenate([out.to_ndarray()[0] for out in [*frames, *resampler.resample(None)]])
    # What Opus adds before and after is marked in the file and cut off by the decoder, to within a few samples.
    sound = np.pad(sound[: len(pcm)], (0, max(0, len(pcm) - len(sound))))
    return sound.astype(np.float32), size * 8 * rate / len(pcm)
