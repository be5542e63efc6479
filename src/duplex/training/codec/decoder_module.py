"""The module of the decoder's training: a codec whose decoder learns, and discriminators that may judge it."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.state import Call
from duplex.training.codec.codec_module import CodecModule
from duplex.training.codec.decoder_settings import DecoderSettings
from duplex.training.codec.discriminators import (
    Judged,
    StftDiscriminators,
    discriminator_loss,
    feature_distance,
    generator_loss,
)
from duplex.training.codec.initialization import normalize
from duplex.training.codec.losses import MultiScaleMelLoss

__all__ = ["DecoderModule"]

LEAD = 4
"""Positions before a crop from which the convolutions start, so that its first samples have a past."""
SPEECH_LEVEL = 0.05


class DecoderModule(CodecModule):
    """A codec's decoder with losses, discriminators, and the moving average of its weights.

    Encoder and quantizer are frozen, so that codes mean what they meant.
    """

    def __init__(self, mimi: Mimi, settings: DecoderSettings) -> None:
        super().__init__()
        self.mimi = mimi
        self.settings = settings
        self.mel: MultiScaleMelLoss = MultiScaleMelLoss(mimi.config.sample_rate)
        self.discriminators: StftDiscriminators | None = None
        if settings.adversarial_steps:
            untyped: Any = torch.random
            with untyped.fork_rng(devices=[]):
                untyped.manual_seed(settings.seed)
                self.discriminators = StftDiscriminators(settings.discriminator_channels)
        self.mimi.requires_grad_(requires_grad=False)
        for part in self._learning():
            part.requires_grad_()
        normalize(mimi.decoder)
        averaging = cast("Any", get_ema_multi_avg_fn)(settings.average_decay)
        self.average: AveragedModel = AveragedModel(mimi, multi_avg_fn=averaging)
        self.average.requires_grad_(requires_grad=False)

    def _learning(self) -> tuple[nn.Module, ...]:
        return self.mimi.upsample, self.mimi.decoder_transformer, self.mimi.decoder

    def forward(self, codes: Tensor, wanted: Tensor, step: int) -> dict[str, Tensor]:
        """Return the losses of a step, with their weighted sum as ``total``.

        ``codes``, int64 ``[batch, codebooks, context + frames]``, end where ``wanted``, float32 ``[batch, frames *
        frame_size]``, does.
        """
        settings = self.settings
        made = self.decode(self.mimi, codes, wanted.shape[1])
        with torch.autocast(wanted.device.type, enabled=False):
            losses = {"mel": self.mel(made, wanted), "spectrum": self.mel.spectrum(made, wanted)}
        total = settings.mel_weight * losses["mel"] + settings.spectrum_weight * losses["spectrum"]
        adversarial_step = step - settings.steps + settings.adversarial_steps
        if self.discriminators is not None and adversarial_step >= 0:
            real = self.discriminators(wanted / SPEECH_LEVEL)
            losses["discriminator"] = discriminator_loss(real, self.discriminators(made.detach() / SPEECH_LEVEL))
            total = total + losses["discriminator"]
            if adversarial_step >= settings.discriminator_steps:
                losses |= self._judgement(self.discriminators, real, made)
                total = total + settings.adversarial_weight * losses["adversarial"]
                total = total + settings.feature_weight * losses["feature"]
        return losses | {"total": total}

    @staticmethod
    def _judgement(discriminators: StftDiscriminators, real: Sequence[Judged], made: Tensor) -> dict[str, Tensor]:
        """Return the losses whose gradients the discriminators pass on to the decoder, and do not learn from."""
        discriminators.requires_grad_(requires_grad=False)
        judged = discriminators(made / SPEECH_LEVEL)
        discriminators.requires_grad_()
        return {"adversarial": generator_loss(judged), "feature": feature_distance(real, judged)}

    @staticmethod
    def decode(mimi: Mimi, codes: Tensor, samples: int) -> Tensor:
        """Return the last samples, float32 ``[batch, samples]``, of what codes ``[batch, codebooks, frames]`` mean.

        The transformer runs over all of them, the convolutions, which cost most, where they are needed.
        """
        positions = mimi.upsample_latents(mimi.quantizer.decode(codes), Call())
        count = samples * mimi.config.positions_per_frame // mimi.config.frame_size
        return mimi.decoder(positions[:, -count - LEAD :], Call())[:, -samples:, 0].float()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the decoder's parameters, and the discriminators' if there are any."""
        groups = {"decoder": [parameter for part in self._learning() for parameter in part.parameters()]}
        if self.discriminators is not None:
            groups["discriminators"] = list(self.discriminators.parameters())
        return groups

    def update_average(self) -> None:
        """Add the weights to their moving average."""
        self.average.update_parameters(self.mimi)

    @property
    def averaged(self) -> Mimi:
        """The codec with the average of the weights."""
        return cast("Mimi", self.average.module)
