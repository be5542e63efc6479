"""Mimi: 24 kHz audio to 12.5 frames of codes a second and back, streaming (section 3.3 of the paper)."""

from torch import Tensor, nn

from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.quantizer import SplitQuantizer
from duplex.backends.torch.seanet import SeanetDecoder, SeanetEncoder
from duplex.backends.torch.state import Call
from duplex.backends.torch.transformer import MimiTransformer
from duplex.checkpoints.mimi_config import MimiConfig

__all__ = ["Mimi"]


class Mimi(nn.Module):
    """The codec with its first ``codebooks`` codebooks."""

    def __init__(self, config: MimiConfig, codebooks: int) -> None:
        super().__init__()
        width, stride = config.seanet.dimension, config.positions_per_frame
        self.config = config
        self.codebooks = codebooks
        self.encoder: SeanetEncoder = SeanetEncoder(config.seanet)
        self.encoder_transformer: MimiTransformer = MimiTransformer(config)
        down = CausalConv1d(width, width, 2 * stride, stride=stride, bias=False, replicate=True)
        self.downsample: nn.ModuleDict = nn.ModuleDict({"conv": down})
        self.quantizer: SplitQuantizer = SplitQuantizer(config.quantizer, codebooks)
        up = CausalConvTranspose1d(width, width, stride, separate=True, bias=False)
        self.upsample: nn.ModuleDict = nn.ModuleDict({"convtr": up})
        self.decoder_transformer: MimiTransformer = MimiTransformer(config)
        self.decoder: SeanetDecoder = SeanetDecoder(config.seanet)
        self.size: int = sum(weight.numel() for weight in self.parameters())
        """Its weights, however many bits they have later."""
        self.products: dict[str, str] = {}
        """The layouts that were chosen for them, by product, once they are laid out."""

    def prepare(self) -> None:
        """Finish what loading the weights has begun."""
        self.quantizer.prepare()

    def product_rows(self) -> dict[nn.Module, int]:
        """Return how many rows the products in each module have for one frame of one stream."""
        found: dict[nn.Module, int] = dict.fromkeys(
            (*self.encoder_transformer.modules(), *self.decoder_transformer.modules()), self.config.positions_per_frame
        )
        for first, root in ((self.config.frame_size, self.encoder), (self.config.positions_per_frame, self.decoder)):
            positions = first
            for part in root.modules():  # in the order in which they are run
                if isinstance(part, CausalConv1d):
                    positions //= part.layer[0].stride[0]
                    found[part] = positions + (part.past if part.narrows else 0)
                elif isinstance(part, CausalConvTranspose1d):
                    found[part], positions = positions, positions * part.stride
        return found

    def encode(self, pcm: Tensor, call: Call) -> Tensor:
        """Encode the next frames, float32 ``[batch, n * frame_size]``, to int64 codes ``[batch, codebooks, n]``."""
        return self.quantizer.encode(self.encode_latents(pcm, call))

    def decode(self, codes: Tensor, call: Call) -> Tensor:
        """Decode the next codes, int64 ``[batch, codebooks, n]``, to float32 ``[batch, n * frame_size]``."""
        return self.decode_latents(self.quantizer.decode(codes), call)

    def encode_latents(self, pcm: Tensor, call: Call) -> Tensor:
        """Return the latents ``[batch, n, dimension]`` of the next frames, before they are quantized."""
        return self.downsample_positions(self.encode_positions(pcm, call), call)

    def encode_positions(self, pcm: Tensor, call: Call) -> Tensor:
        """Return the encoder's positions ``[batch, n * positions_per_frame, dimension]`` of the next frames."""
        return self.encoder_transformer(self.encoder(pcm[:, :, None], call), call)

    def downsample_positions(self, positions: Tensor, call: Call) -> Tensor:
        """Return the latents ``[batch, n, dimension]`` of the encoder's next positions."""
        return self.downsample["conv"](positions, call)

    def decode_latents(self, latent: Tensor, call: Call) -> Tensor:
        """Return the audio ``[batch, n * frame_size]`` of the next latents ``[batch, n, dimension]``."""
        return self.decoder(self.upsample_latents(latent, call), call)[:, :, 0]

    def upsample_latents(self, latent: Tensor, call: Call) -> Tensor:
        """Return the decoder's positions ``[batch, n * positions_per_frame, dimension]`` of the next latents."""
        return self.decoder_transformer(self.upsample["convtr"](latent, call), call)
