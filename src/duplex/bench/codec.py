"""Benchmark of the codec, frame by frame, as in a live conversation."""

import attrs
import numpy as np

from duplex.bench.timing import Percentiles, time_call
from duplex.codec import Codec

__all__ = ["CodecTimes", "time_codec"]

WARM_UP = 5


@attrs.frozen
class CodecTimes:
    """Times of a frame in each direction."""

    encode: Percentiles
    decode: Percentiles
    both: Percentiles

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return ``{"encode_ms": ..., "decode_ms": ...}``."""
        return {"encode_ms": self.encode.as_json(), "decode_ms": self.decode.as_json()}


def time_codec(codec: Codec, frames: int) -> CodecTimes:
    """Time ``frames`` frames of noise through one stream of a codec, from numpy to numpy."""
    spec, stream = codec.spec, codec.stream()
    pcm = noise(frames + WARM_UP, spec.frame_size)
    encode: list[float] = []
    decode: list[float] = []
    for frame in pcm:
        codes = np.zeros((spec.codebooks, 1), np.int64)

        def listen(frame: np.ndarray = frame, codes: np.ndarray = codes) -> None:
            codes[:] = stream.encode(frame)

        encode.append(time_call(listen))
        decode.append(time_call(lambda codes=codes: stream.decode(codes)))
    encode, decode = encode[WARM_UP:], decode[WARM_UP:]
    both = [sum(frame) for frame in zip(encode, decode, strict=True)]
    return CodecTimes(Percentiles.of(encode), Percentiles.of(decode), Percentiles.of(both))


def noise(*shape: int) -> np.ndarray:
    """Return reproducible noise at the level of speech, float32."""
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
