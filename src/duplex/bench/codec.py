"""The codec, a frame at a time, as a live conversation uses it."""

import attrs
import numpy as np

from duplex.bench.times import Times, timed
from duplex.codec import Codec

__all__ = ["CodecTimes", "time_codec"]

WARM_UP = 5


@attrs.frozen
class CodecTimes:
    """Of a frame in each direction."""

    encode: Times
    decode: Times
    both: Times

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return ``{"encode_ms": ..., "decode_ms": ...}``."""
        return {"encode_ms": self.encode.as_json(), "decode_ms": self.decode.as_json()}


def time_codec(codec: Codec, frames: int) -> CodecTimes:
    """Time so many frames of noise through a codec, numpy to numpy, one stream."""
    spec, stream = codec.spec, codec.stream()
    pcm = noise(frames + WARM_UP, spec.frame_size)
    encode: list[float] = []
    decode: list[float] = []
    for frame in pcm:
        codes = np.zeros((spec.codebooks, 1), np.int64)

        def listen(frame: np.ndarray = frame, codes: np.ndarray = codes) -> None:
            codes[:] = stream.encode(frame)

        encode.append(timed(listen))
        decode.append(timed(lambda codes=codes: stream.decode(codes)))
    encode, decode = encode[WARM_UP:], decode[WARM_UP:]
    both = [sum(frame) for frame in zip(encode, decode, strict=True)]
    return CodecTimes(Times.of(encode), Times.of(decode), Times.of(both))


def noise(*shape: int) -> np.ndarray:
    """Return the same noise every time, as loud as speech: float32 of a shape."""
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
