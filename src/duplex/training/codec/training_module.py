"""The codec's training module: the torch backend's :class:`Mimi` with auxiliary heads and losses."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.state import Call
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.training.codec.codec_module import CodecModule
from duplex.training.codec.initialization import initialize, normalize
from duplex.training.codec.losses import MultiScaleMelLoss
from duplex.training.codec.settings import CodecSettings
from duplex.training.codec.vector_quantization import bypass, initialize_codebooks, quantize

__all__ = ["MimiTrainingModule"]

SPEECH_LEVEL = 0.05


class MimiTrainingModule(CodecModule):
    """Mimi with losses, and linear heads that predict distillation and spectral targets from its latents.

    Two heads predict the teacher's features: one from the first codebook alone, so that it becomes semantic, one from
    all codebooks. Two predict the spectrum, from the encoder's output (``heard_head``) and from the decoder's input
    (``told_head``). Encoder and quantizer are trained by the heads, and the decoder on detached inputs: gradients
    through an untrained decoder are large and uninformative, and the encoder would learn little more than the level.
    Later a share of the decoder's gradient is passed on.
    """

    def __init__(
        self, config: MimiConfig, settings: CodecSettings, teacher_width: int, start_from: Mimi | None = None
    ) -> None:
        super().__init__()
        self.mimi: Mimi = Mimi(config, config.quantizer.n_q)
        self.settings = settings
        self.mel: MultiScaleMelLoss = MultiScaleMelLoss(config.sample_rate)
        self.generator: torch.Generator = torch.Generator().manual_seed(settings.seed)
        """Random numbers of a step; seeding it makes a step reproducible."""
        spectral_target_size = self.mel.spectral_target_size(config.seanet.hop_length)
        self.heard_head: nn.Linear = self._head(spectral_target_size)
        self.told_head: nn.Linear = self._head(spectral_target_size)
        self.first_head: nn.Linear | None = self._head(teacher_width) if teacher_width else None
        self.whole_head: nn.Linear | None = self._head(teacher_width) if teacher_width else None
        self.started_from: bool = start_from is not None
        """Whether the initial weights, and so the codebooks, are those of another codec."""
        if start_from is None:
            initialize(self.mimi, settings.seed)
        else:
            self.mimi.load_state_dict(start_from.state_dict())
        normalize(self.mimi)
        self.mimi.prepare()

    def forward(
        self,
        pcm: Tensor,
        teacher: Tensor | None,
        unquantized: Tensor,
        *,
        with_audio: bool,
        decoder_gradient: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return the losses on crops, float32 ``[batch, n * frame_size]``, with their weighted sum as ``total``.

        ``teacher`` is float32 ``[batch, frames, width]``; crops for which ``unquantized``, bool ``[batch]``, is true
        bypass the quantizer. Audio is decoded and compared only if ``with_audio``; the share ``decoder_gradient`` of
        the gradient at the decoder's input is passed on to quantizer and encoder.
        """
        encoded = self.mimi.encode_positions(pcm, Call())
        latent = self.mimi.downsample_positions(encoded, Call()).float()
        first, rest, commitment = self._quantize(latent, unquantized)
        positions = self.mimi.upsample_latents(first + rest, Call())
        losses = {"commitment": commitment}
        decoder_input = torch.lerp(positions.detach(), positions, decoder_gradient)
        decoded = self.mimi.decoder(decoder_input, Call())[:, :, 0].float() if with_audio else None
        with torch.autocast(pcm.device.type, enabled=False):
            spectrum = self.mel.spectral_targets(pcm, encoded.shape[1])
            losses["spectrum_heard"] = (self.heard_head(encoded.float()) - spectrum).abs().mean()
            losses["spectrum_told"] = (self.told_head(positions.float()) - spectrum).abs().mean()
            if teacher is not None and self.first_head is not None and self.whole_head is not None:
                losses["teacher_first"] = _distance(self.first_head(first), teacher)
                losses["teacher_whole"] = _distance(self.whole_head(first + rest), teacher)
            if decoded is not None:
                losses["mel"] = self.mel(decoded, pcm)
                losses["waveform"] = (decoded - pcm).abs().mean() / SPEECH_LEVEL
        weights = self.settings.weights
        return losses | {"total": sum((weights[name] * loss for name, loss in losses.items()), latent.new_zeros(()))}

    def _quantize(self, latent: Tensor, unquantized: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the semantic and the acoustic quantizer's output, and the commitment loss."""
        halves = (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest)
        with torch.autocast(latent.device.type, enabled=False):
            if bool(unquantized.all()):
                first, rest = (bypass(half, latent) for half in halves)
                return first, rest, latent.new_zeros(())
            outputs = [quantize(half, latent, learn=self.generator if self.training else None) for half in halves]
            passes = unquantized.view(-1, 1, 1)
            first, rest = (
                torch.where(passes, bypass(half, latent), sound)
                for half, (sound, _) in zip(halves, outputs, strict=True)
            )
            return first, rest, outputs[0][1] + outputs[1][1]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that learn from different losses: the decoder, and everything else."""
        decoder = list(self.mimi.decoder.parameters())
        known = {id(parameter) for parameter in decoder}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return {"encoder": others, "decoder": decoder}

    def _head(self, count: int) -> nn.Linear:
        """Return a linear head from a latent to ``count`` targets."""
        head = nn.Linear(self.mimi.config.seanet.dimension, count)
        nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=self.generator)
        nn.init.zeros_(head.bias)
        return head

    @torch.no_grad()
    def latents(self, pcm: Tensor) -> Tensor:
        """Return the latents of crops as ``[batch * frames, dimension]``."""
        return self.mimi.encode_latents(pcm, Call()).float().flatten(0, 1)

    @torch.no_grad()
    def reconstruct(self, pcm: Tensor) -> Tensor:
        """Return the reconstruction of crops, float32 ``[batch, samples]`` both."""
        return self.mimi.decode(self.mimi.encode(pcm, Call()), Call())

    def initialize_codebooks(self, latents: Tensor, seed: int) -> None:
        """Initialize the codebooks by k-means over latents ``[count, dimension]``."""
        generator = torch.Generator().manual_seed(seed)
        for half in (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest):
            initialize_codebooks(half, latents, generator)


def _distance(read: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - the cosine similarity of features ``[batch, frames, width]``."""
    return 1 - functional.cosine_similarity(read, teacher, dim=-1).mean()
