"""Mimi: 24 kHz audio to 12.5 frames of codes a second and back, streaming (section 3.3 of the paper)."""

import mlx.core as mx

from duplex.backends.mlx.arrays import named_modules
from duplex.backends.mlx.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.quantizer import Codebook, Projection, SplitQuantizer
from duplex.backends.mlx.seanet import SeanetDecoder, SeanetEncoder
from duplex.backends.mlx.state import Call
from duplex.backends.mlx.transformer import MimiTransformer
from duplex.checkpoints.mimi_config import MimiConfig

__all__ = ["Mimi"]


class Mimi(Module):
    """The codec with its first ``codebooks`` codebooks."""

    def __init__(self, config: MimiConfig, codebooks: int) -> None:
        super().__init__()
        width, stride = config.seanet.dimension, config.positions_per_frame
        self.config = config
        self.codebooks = codebooks
        self.encoder: SeanetEncoder = SeanetEncoder(config.seanet)
        self.encoder_transformer: MimiTransformer = MimiTransformer(config)
        self.downsample: dict[str, CausalConv1d] = {
            "conv": CausalConv1d(width, width, 2 * stride, stride=stride, bias=False, replicate=True),
        }
        self.quantizer: SplitQuantizer = SplitQuantizer(config.quantizer, codebooks)
        self.upsample: dict[str, CausalConvTranspose1d] = {
            "convtr": CausalConvTranspose1d(width, width, stride, separate=True, bias=False)
        }
        self.decoder_transformer: MimiTransformer = MimiTransformer(config)
        self.decoder: SeanetDecoder = SeanetDecoder(config.seanet)

    def prepare(self) -> None:
        """Finish what loading the weights has begun: lay them out as a step reads them."""
        for _, part in named_modules(self):
            if isinstance(part, CausalConv1d | CausalConvTranspose1d | Codebook | Projection):
                part.prepare()
            elif isinstance(part, Linear):
                part.lay_across()

    def encode(self, pcm: mx.array, call: Call) -> mx.array:
        """Encode the next frames, float32 ``[batch, n * frame_size]``, to int32 codes ``[batch, codebooks, n]``."""
        positions = self.encoder_transformer(self.encoder(pcm[:, :, None], call), call)
        return self.quantizer.encode(self.downsample["conv"](positions, call))

    def decode(self, codes: mx.array, call: Call) -> mx.array:
        """Decode the next codes, int32 ``[batch, codebooks, n]``, to float32 ``[batch, n * frame_size]``."""
        latent = self.quantizer.decode(codes)
        positions = self.decoder_transformer(self.upsample["convtr"](latent, call), call)
        return self.decoder(positions, call)[:, :, 0]
