"""Mimi behind the :class:`duplex.codec.Codec` protocol: numpy in, numpy out."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.audio.pcm import as_mono_float32
from duplex.backends.shared.process import OwnProcess
from duplex.backends.torch.cores import codes_on_one_core, cores
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.onednn import onednn_weights_of
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.products.selector import ProductSelector
from duplex.backends.torch.quantize import Kind
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.backends.torch.tracing import Traced
from duplex.backends.torch.unfilled import unfilled
from duplex.backends.torch.weights import load_weights
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.weight_names import codec_projection_rows
from duplex.codec import CodecSpec
from duplex.errors import UsageError

__all__ = ["TorchCodec", "load_mimi", "read_mimi"]

# Codebooks past those in use, and a flag of training.
_UNUSED = re.compile(r"^quantizer\.rvq_rest\.vq\.layers\.\d+\.|\._codebook\._initialized$")


def load_mimi(
    config: MimiConfig,
    path: Path,
    codebooks: int,
    device: torch.device,
    quantize: Kind | None = None,
    selector: ProductSelector | None = None,
) -> Mimi:
    """Load Mimi for whoever computes with it: as :func:`read_mimi`, its weights laid out as a step reads them.

    The ``selector`` chooses how: that of the model of which it is a part, or one for the codec alone.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    :raises UsageError: if the environment pins layouts that cannot be used
    """
    mimi = read_mimi(config, path, codebooks, device, quantize)
    if selector is None:
        selector = ProductSelector.of(sessions=1, deterministic=False)
        selector.one_core = codes_on_one_core(mimi.size)
    prepack(mimi, selector, mimi.product_rows())
    mimi.products = selector.layouts()
    return mimi


def read_mimi(
    config: MimiConfig, path: Path, codebooks: int, device: torch.device, quantize: Kind | None = None
) -> Mimi:
    """Read Mimi with its first ``codebooks`` codebooks, in float32: codes are decisions, and must not depend on dtype.

    ``quantize`` rounds the weights of its transformers for whoever asks for it; some codes are then others.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    """
    with unfilled():
        mimi = Mimi(config, codebooks)
    load_weights(
        mimi,
        path,
        dtype=torch.float32,
        device=device,
        unused=_UNUSED,
        rows=functools.partial(codec_projection_rows, config),
        quantize=quantize,
        codec=True,
    )
    mimi.prepare()
    return mimi


class TorchCodec:
    """Audio to codes and back."""

    FRAMES_PER_CALL = 16

    def __init__(self, mimi: Mimi) -> None:
        config = mimi.config
        self.mimi = mimi
        self._process = OwnProcess()
        self.spec: CodecSpec = CodecSpec(
            sample_rate=config.sample_rate,
            frame_size=config.frame_size,
            codebooks=mimi.codebooks,
            vocabulary=config.quantizer.bins,
        )
        self.products: Mapping[str, str] = mimi.products
        """The layouts that were chosen for its weights on a CPU, by product."""
        self.one_core: bool = codes_on_one_core(mimi.size)
        self.device: torch.device = mimi.quantizer.rvq_first.input_proj.weight.device
        packed = onednn_weights_of(mimi)
        self.encoder: Traced = Traced(functools.partial(_encode, mimi), packed)
        self.decoder: Traced = Traced(functools.partial(_decode, mimi), packed)

    def encode(self, pcm: NDArray[np.float32]) -> NDArray[np.int64]:
        """Encode a whole recording, float32 ``[samples]``, to int64 codes ``[codebooks, frames]``."""
        pcm = as_mono_float32(pcm)
        return self.stream().encode(np.pad(pcm, (0, -len(pcm) % self.spec.frame_size)))

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Decode int64 codes ``[codebooks, frames]`` to float32 ``[frames * frame_size]``, unclipped."""
        return self.stream().decode(codes)

    def stream(self) -> "TorchCodecStream":
        """Start a recording that is encoded or decoded piece by piece.

        :raises ForkError: in another process than the one that it was loaded in: OpenMP's threads have stayed behind
        """
        self._process.check("the codec")
        return TorchCodecStream(self)


class TorchCodecStream:
    """One recording going through the codec."""

    def __init__(self, codec: TorchCodec) -> None:
        self._codec = codec
        self._spec = codec.spec
        self._device = codec.device
        self._chunk = codec.FRAMES_PER_CALL
        self._one_core = codec.one_core and codec.device.type == "cpu"
        declared = bind(codec.mimi, "mimi", self._chunk)
        self._state = SlotState.allocate(declared, 1, dtype=torch.float32, device=codec.device)
        self._encoded = self._decoded = 0

    def encode(self, pcm: NDArray[np.float32]) -> NDArray[np.int64]:
        """Encode float32 ``[n * frame_size]`` to int64 codes ``[codebooks, n]``."""
        pcm, size = as_mono_float32(pcm), self._spec.frame_size
        if len(pcm) % size:
            raise UsageError(f"{len(pcm)} samples are not a whole number of frames; give a multiple of {size}")
        codes = [np.zeros((self._spec.codebooks, 0), np.int64)]
        for start in range(0, len(pcm), self._chunk * size):
            piece = torch.tensor(pcm[start : start + self._chunk * size], device=self._device)
            self._encoded += len(piece) // size
            encoded = self._run(self._codec.encoder, piece, self._encoded, live=len(pcm) == size)
            codes.append(encoded.cpu().numpy())
        return np.concatenate(codes, axis=1)

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Decode int64 codes ``[codebooks, n]`` to float32 ``[n * frame_size]``."""
        self._spec.check_codes(codes)
        pcm = [np.zeros(0, np.float32)]
        for start in range(0, codes.shape[1], self._chunk):
            piece = torch.tensor(codes[:, start : start + self._chunk].astype(np.int64), device=self._device)
            self._decoded += piece.shape[1]
            decoded = self._run(self._codec.decoder, piece, self._decoded, live=codes.shape[1] == 1)
            pcm.append(decoded.cpu().numpy())
        return np.concatenate(pcm)

    def _run(self, half: Traced, piece: Tensor, filled: int, *, live: bool) -> Tensor:
        """Run half of the codec over a piece: as a program where pieces are frames, recorded at the first of them."""
        with torch.inference_mode(), cores(1 if self._one_core else None):
            if not live or self._device.type != "cpu":
                return half.compute(self._state, piece[None], filled)[0]
            given = piece[None], torch.tensor(filled)
            half.trace(self._state, 0, *given)
            return half(self._state, *given)[0]


def _encode(mimi: Mimi, state: SlotState, pcm: Tensor, filled: int | Tensor) -> Tensor:
    """Return the codes of a stream's next audio, float32 ``[1, n * frame_size]``; it is at ``filled`` frames then."""
    return mimi.encode(pcm, Call(state, filled=filled))


def _decode(mimi: Mimi, state: SlotState, codes: Tensor, filled: int | Tensor) -> Tensor:
    """Return the audio of a stream's next codes, int64 ``[1, codebooks, n]``."""
    return mimi.decode(codes, Call(state, filled=filled))
