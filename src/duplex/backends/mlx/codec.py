"""Mimi behind the :class:`duplex.codec.Codec` protocol: numpy in, numpy out."""

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import as_mono_float32
from duplex.backends.mlx.arrays import evaluate, from_numpy, to_numpy
from duplex.backends.mlx.mimi import Mimi
from duplex.backends.mlx.state import Call, allocate, bind, exclusive
from duplex.backends.mlx.weights import load_mimi_weights
from duplex.backends.shared.process import OwnProcess
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.codec import CodecSpec
from duplex.errors import UsageError

__all__ = ["MlxCodec", "load_mimi"]

# Codebooks past those in use, and a flag of training.
_UNUSED = re.compile(r"^quantizer\.rvq_rest\.vq\.layers\.\d+\.|\._codebook\._initialized$")


def load_mimi(config: MimiConfig, path: Path, codebooks: int) -> Mimi:
    """Load Mimi with its first ``codebooks`` codebooks, in float32: codes are decisions, and must not depend on dtype.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    """
    mimi = Mimi(config, codebooks)
    load_mimi_weights(mimi, path, _UNUSED)
    mimi.prepare()
    return mimi


class MlxCodec:
    """Audio to codes and back."""

    FRAMES_PER_CALL = 16

    def __init__(self, mimi: Mimi, device: mx.Device) -> None:
        config = mimi.config
        self.mimi = mimi
        self._process = OwnProcess()
        self.device = device
        self.spec: CodecSpec = CodecSpec(
            sample_rate=config.sample_rate,
            frame_size=config.frame_size,
            codebooks=mimi.codebooks,
            vocabulary=config.quantizer.bins,
        )

    def encode(self, pcm: NDArray[np.float32]) -> NDArray[np.int64]:
        """Encode a whole recording, float32 ``[samples]``, to int64 codes ``[codebooks, frames]``."""
        pcm = as_mono_float32(pcm)
        return self.stream().encode(np.pad(pcm, (0, -len(pcm) % self.spec.frame_size)))

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Decode int64 codes ``[codebooks, frames]`` to float32 ``[frames * frame_size]``, unclipped."""
        return self.stream().decode(codes)

    def stream(self) -> "MlxCodecStream":
        """Start a recording that is encoded or decoded piece by piece.

        :raises ForkError: in another process than the one that it was loaded in
        """
        self._process.check("the codec")
        return MlxCodecStream(self)


class MlxCodecStream:
    """One recording going through the codec."""

    def __init__(self, codec: MlxCodec) -> None:
        self._mimi = codec.mimi
        self._spec = codec.spec
        self._device = codec.device
        self._chunk = codec.FRAMES_PER_CALL
        with exclusive(self._device):
            self._state = allocate(bind(codec.mimi, "mimi", self._chunk), mx.float32)
            evaluate(self._state)
        self._encoded = self._decoded = 0

    def encode(self, pcm: NDArray[np.float32]) -> NDArray[np.int64]:
        """Encode float32 ``[n * frame_size]`` to int64 codes ``[codebooks, n]``."""
        pcm, size = as_mono_float32(pcm), self._spec.frame_size
        if len(pcm) % size:
            raise UsageError(f"{len(pcm)} samples are not a whole number of frames; give a multiple of {size}")
        codes = [np.zeros((self._spec.codebooks, 0), np.int64)]
        for start in range(0, len(pcm), self._chunk * size):
            piece = pcm[start : start + self._chunk * size]
            self._encoded += len(piece) // size
            with exclusive(self._device):
                encoded = self._mimi.encode(from_numpy(piece)[None], Call([self._state], self._encoded))
                evaluate(encoded, self._state)
            codes.append(to_numpy(encoded[0]).astype(np.int64))
        return np.concatenate(codes, axis=1)

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Decode int64 codes ``[codebooks, n]`` to float32 ``[n * frame_size]``."""
        self._spec.check_codes(codes)
        pcm = [np.zeros(0, np.float32)]
        for start in range(0, codes.shape[1], self._chunk):
            piece = codes[:, start : start + self._chunk]
            self._decoded += piece.shape[1]
            with exclusive(self._device):
                decoded = self._mimi.decode(from_numpy(piece)[None], Call([self._state], self._decoded))
                evaluate(decoded, self._state)
            pcm.append(to_numpy(decoded[0]))
        return np.concatenate(pcm)
