"""The codec as it is trained: the backend's own :class:`Mimi`, with losses and what they need around it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.state import Call
from duplex.checkpoints.config import MimiConfig
from duplex.training.codec.initial import initialize, normalize
from duplex.training.codec.losses import MelLoss
from duplex.training.codec.quantizing import plain, quantized, seed_codebooks
from duplex.training.codec.settings import CodecSettings

__all__ = ["TrainedMimi"]

SPEECH_LEVEL = 0.05


class TrainedMimi(nn.Module):
    """Mimi with its losses, and heads that read from its latents what they shall tell.

    Two heads read what the teacher heard: one from the first codebook alone, so that it comes to carry what is said,
    one from all of them. Two read the spectrum, from what the encoder has heard and from what reaches the decoder.
    Encoder and quantizer learn from the heads, and the decoder to make sound of what it is told: gradients through a
    decoder that cannot speak yet say little, and loudly, and keep an encoder from learning more than how loud it is.
    Once the decoder can, a share of its gradient goes on to them.
    """

    def __init__(
        self, config: MimiConfig, settings: CodecSettings, teacher_width: int, start_from: Mimi | None = None
    ) -> None:
        super().__init__()
        self.mimi = Mimi(config, config.quantizer.n_q)
        self.settings = settings
        self.mel = MelLoss(config.sample_rate)
        self.generator = torch.Generator().manual_seed(settings.seed)
        """Draws what happens by chance within a step; whoever wants a step again seeds it."""
        described = self.mel.described(config.seanet.hop_length)
        self.heard_head = self._head(described)
        self.told_head = self._head(described)
        self.first_head = self._head(teacher_width) if teacher_width else None
        self.whole_head = self._head(teacher_width) if teacher_width else None
        self.started_from = start_from is not None
        """Whether the first weights, and so the codebooks, are those of another codec."""
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
        sounding: bool,
        decoder_gradient: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return the losses of crops, float32 ``[batch, n * frame_size]``, the sum of all as ``total``.

        ``teacher`` is float32 ``[batch, frames, width]``; crops of which ``unquantized``, bool ``[batch]``, is true
        pass the quantizer as if it were exact. Only if ``sounding`` is audio made, and compared; of the gradient that
        the decoder's input then gets, the share ``decoder_gradient`` goes on.
        """
        heard = self.mimi.listen(pcm, Call())
        latent = self.mimi.condense(heard, Call()).float()
        first, rest, commitment = self._quantize(latent, unquantized)
        positions = self.mimi.unfold(first + rest, Call())
        losses = {"commitment": commitment}
        told = torch.lerp(positions.detach(), positions, decoder_gradient)
        made = self.mimi.decoder(told, Call())[:, :, 0].float() if sounding else None
        with torch.autocast(pcm.device.type, enabled=False):
            spectrum = self.mel.description(pcm, heard.shape[1])
            losses["spectrum_heard"] = (self.heard_head(heard.float()) - spectrum).abs().mean()
            losses["spectrum_told"] = (self.told_head(positions.float()) - spectrum).abs().mean()
            if teacher is not None and self.first_head is not None and self.whole_head is not None:
                losses["teacher_first"] = _distance(self.first_head(first), teacher)
                losses["teacher_whole"] = _distance(self.whole_head(first + rest), teacher)
            if made is not None:
                losses["mel"] = self.mel(made, pcm)
                losses["waveform"] = (made - pcm).abs().mean() / SPEECH_LEVEL
        weights = self.settings.weights
        return losses | {"total": sum((weights[name] * loss for name, loss in losses.items()), latent.new_zeros(()))}

    def _quantize(self, latent: Tensor, unquantized: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the first codebook says, what the others add, and the commitment loss."""
        halves = (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest)
        with torch.autocast(latent.device.type, enabled=False):
            if bool(unquantized.all()):
                first, rest = (plain(half, latent) for half in halves)
                return first, rest, latent.new_zeros(())
            made = [quantized(half, latent, learn=self.generator if self.training else None) for half in halves]
            passes = unquantized.view(-1, 1, 1)
            first, rest = (
                torch.where(passes, plain(half, latent), sound) for half, (sound, _) in zip(halves, made, strict=True)
            )
            return first, rest, made[0][1] + made[1][1]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return what learns from different losses: the decoder, and everything else."""
        decoder = list(self.mimi.decoder.parameters())
        known = {id(parameter) for parameter in decoder}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return {"encoder": others, "decoder": decoder}

    def _head(self, count: int) -> nn.Linear:
        """Return what reads ``count`` numbers from each latent."""
        head = nn.Linear(self.mimi.config.seanet.dimension, count)
        nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=self.generator)
        nn.init.zeros_(head.bias)
        return head

    @torch.no_grad()
    def latents(self, pcm: Tensor) -> Tensor:
        """Return the latents of crops as ``[batch * frames, dimension]``."""
        return self.mimi.analyze(pcm, Call()).float().flatten(0, 1)

    @torch.no_grad()
    def reconstruct(self, pcm: Tensor) -> Tensor:
        """Return what comes back of crops, float32 ``[batch, samples]`` both."""
        return self.mimi.decode(self.mimi.encode(pcm, Call()), Call())

    def seed_codebooks(self, latents: Tensor, seed: int) -> None:
        """Set the codebooks' entries from latents ``[count, dimension]``."""
        generator = torch.Generator().manual_seed(seed)
        for half in (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest):
            seed_codebooks(half, latents, generator)


def _distance(read: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - the cosine of the angle between features ``[batch, frames, width]``."""
    return 1 - functional.cosine_similarity(read, teacher, dim=-1).mean()
