"""The decoder's training: a codec that is intelligible learns to sound better, and its codes stay.

1. It starts from a codec. Encoder and quantizer are frozen, so that whatever has been encoded remains valid.
2. It learns from the spectra alone; in the last ``adversarial_steps`` discriminators learn too, and it from them.
3. What is exported is the moving average of the weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from duplex.backends.torch.codec import TorchCodec, read_mimi
from duplex.backends.torch.mimi import Mimi
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.training.codec.codec_trainer import CODEC, CodecTrainer
from duplex.training.codec.coded_crops import CodedCropSampler
from duplex.training.codec.decoder_module import DecoderModule
from duplex.training.codec.decoder_settings import DecoderSettings
from duplex.training.data.corpus import Corpus
from duplex.training.distributed import DistributedContext
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import TrainingProgress

__all__ = ["train_decoder"]


def train_decoder(
    data: Path,
    out: Path,
    settings: DecoderSettings | None = None,
    *,
    start_from: Path,
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Path:
    """Train a codec's decoder on, or resume a run, and return the folder of the exported codec.

    :param data: a folder of shards, as ``duplex train data`` writes it
    :param out: the run's folder, new or that of an interrupted run
    :param start_from: a folder with the codec, whose encoder and codebooks are kept
    :raises CorpusError: if the data is missing, damaged, silent, or of another sample rate
    :raises TrainingError: if ``out`` has another run or one on other data, or losses are no longer finite
    :raises ConfigError: if the codec's configuration is invalid or unsupported
    :raises WeightsError: if its weights cannot be read
    :raises OutputError: if something cannot be written; the previous checkpoint is kept
    """
    chosen = settings or DecoderSettings()
    path = start_from / MIMI_CONFIG
    config = read_json(path, str(path))
    shape = MimiConfig.from_dict(config, where=str(path))
    distributed = DistributedContext.setup(device)
    corpus = Corpus.open(data, shape.sample_rate)
    first, encoder = (
        read_mimi(shape, start_from / MIMI_WEIGHTS, shape.quantizer.n_q, distributed.device) for _ in range(2)
    )
    crops = CodedCropSampler(corpus, chosen, TorchCodec(encoder))
    run = RunFolder(
        out,
        {
            "kind": "decoder",
            "config": config,
            "settings": chosen.as_json(),
            "start_from": str(start_from.resolve()),
        },
        data=data,
        writes=distributed.is_main,
    )
    model = DecoderModule(first, chosen).to(distributed.device)
    _DecoderTrainer(model, chosen, crops, run, distributed, config).run_to_end(save_every, progress)
    return out / CODEC


class _DecoderTrainer(CodecTrainer[DecoderModule, CodedCropSampler]):
    """Trains the decoder and the discriminators, with one optimizer: their gradients are apart."""

    BETAS: ClassVar[tuple[float, float]] = (0.8, 0.99)
    VALIDATION_BATCHES: ClassVar[int] = 8

    @property
    def exported(self) -> Mimi:
        """The codec with the average of the decoder's weights."""
        return self.model.averaged

    def before_step(self) -> None:
        """Average the weights of the steps before."""
        self.model.update_average()

    def losses(self, part: int = 0) -> dict[str, Tensor]:  # noqa: ARG002 -- one batch is a step
        """Return the losses on this step's crops."""
        with torch.autocast(self.distributed.device.type, enabled=False):  # codes must not depend on how it trains
            batch = self.crops.batch(self.step, self.distributed.rank)
        codes, wanted = map(self.tensor, batch)
        return self.forward(codes, wanted, self.step)

    def after_restore(self) -> None:
        """Recompute the codebooks' entries."""
        super().after_restore()
        self.model.averaged.prepare()

    def validation_losses(self, index: int) -> dict[str, Tensor]:
        """Return the spectral losses of the averaged decoder on a batch of the validation set."""
        wanted, made = self._decoded(index)
        return {"mel": self.model.mel(made, wanted), "spectrum": self.model.mel.spectrum(made, wanted)}

    def reconstructed(self) -> tuple[Tensor, Tensor]:
        """Return crops of the validation set and what the averaged decoder makes of their codes."""
        return self._decoded(0)

    def _decoded(self, index: int) -> tuple[Tensor, Tensor]:
        codes, wanted = map(self.tensor, self.crops.validation(index))
        return wanted, self.model.decode(self.model.averaged, codes, wanted.shape[1])
