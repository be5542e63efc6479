"""The decoder's adversarial training: a codec that is intelligible learns to sound real, and its codes stay.

1. It starts from a codec. Encoder and quantizer are frozen, so that whatever has been encoded remains valid.
2. For ``discriminator_steps`` the decoder learns from the spectra alone; then the discriminators are heard too.
3. What is exported is the moving average of the weights.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duplex.atomic import make_folder
from duplex.audio.wav import WavWriter
from duplex.backends.torch.codec import TorchCodec, read_mimi
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.training.codec.adversarial_module import AdversarialModule
from duplex.training.codec.adversarial_settings import AdversarialSettings
from duplex.training.codec.coded_crops import CodedCropSampler
from duplex.training.codec.export import export_codec
from duplex.training.data.corpus import Corpus
from duplex.training.distributed import DistributedContext
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Trainer, TrainingProgress

__all__ = ["train_decoder"]

VALIDATION_BATCHES = 8
CODEC = "codec"


def train_decoder(
    data: Path,
    out: Path,
    settings: AdversarialSettings | None = None,
    *,
    start_from: Path,
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Path:
    """Train a codec's decoder against discriminators, or resume a run, and return the folder of the exported codec.

    :param data: a folder of shards, as ``duplex train data`` writes it
    :param out: the run's folder, new or that of an interrupted run
    :param start_from: a folder with the codec, whose encoder and codebooks are kept
    :raises CorpusError: if the data is missing, damaged, silent, or of another sample rate
    :raises TrainingError: if ``out`` has another run, or losses are no longer finite
    :raises ConfigError: if the codec's configuration is invalid or unsupported
    :raises WeightsError: if its weights cannot be read
    :raises OutputError: if something cannot be written; the previous checkpoint is kept
    """
    chosen = settings or AdversarialSettings()
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
            "settings": attrs.asdict(chosen, filter=attrs.filters.exclude("steps")),
            "start_from": str(start_from.resolve()),
        },
    )
    model = AdversarialModule(first, chosen).to(distributed.device)
    trainer = _DecoderTrainer(model, crops, run, distributed, dict(config))
    with distributed:
        trainer.resume()
        trainer.train(save_every, progress)
    return out / CODEC


class _DecoderTrainer(Trainer):
    """Trains the decoder and the discriminators, with one optimizer: their gradients are apart."""

    BETAS: ClassVar[tuple[float, float]] = (0.8, 0.99)

    def __init__(
        self,
        model: AdversarialModule,
        crops: CodedCropSampler,
        run: RunFolder,
        distributed: DistributedContext,
        config: dict[str, object],
    ) -> None:
        settings = model.settings
        seconds = settings.batch * settings.crop_frames / model.mimi.config.frame_rate
        super().__init__(model, settings, run, distributed, seconds * distributed.world_size)
        self._model = model
        self._crops = crops
        self._config = config

    def before_step(self) -> None:
        """Average the weights of the steps before."""
        self._model.update_average()

    def losses(self, part: int = 0) -> dict[str, Tensor]:  # noqa: ARG002 -- one batch is a step
        """Return the losses on this step's crops."""
        with torch.autocast(self.distributed.device.type, enabled=False):  # codes must not depend on how it trains
            batch = self._crops.batch(self.step, self.distributed.rank)
        codes, wanted = self._tensors(*batch)
        return self._model(codes, wanted, judged=self.step >= self._model.settings.discriminator_steps)

    def learning_rate(self) -> float:
        """Return the learning rate of this step."""
        return self._model.settings.learning_rate_at(self.step)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the decoder's parameters, and the discriminators'."""
        return self._model.parameter_groups()

    def after_restore(self) -> None:
        """Recompute the codebooks' entries."""
        self._model.mimi.prepare()
        self._model.averaged.prepare()

    def validate(self) -> dict[str, float]:
        """Return the spectral losses of the averaged decoder on the validation set."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(VALIDATION_BATCHES):
            codes, wanted = self._tensors(*self._crops.validation(index))
            made = self._model.decode(self._model.averaged, codes, wanted.shape[1])
            sums["mel"] += float(self._model.mel(made, wanted)) / VALIDATION_BATCHES
            sums["spectrum"] += float(self._model.mel.spectrum(made, wanted)) / VALIDATION_BATCHES
        return sums

    @torch.no_grad()
    def write_outputs(self) -> None:
        """Write originals with what the averaged decoder makes of their codes, and an export."""
        codes, wanted = self._tensors(*self._crops.validation(0))
        made = self._model.decode(self._model.averaged, codes, wanted.shape[1])
        both = torch.stack([wanted, made], dim=1).flatten().cpu().numpy()
        path = self.run.path / "samples" / f"step-{self.step:06}.wav"
        make_folder(path.parent)
        with WavWriter(path, sample_rate=self._model.mimi.config.sample_rate, channels=1) as file:
            file.write(both)
        export_codec(self._model.averaged, self._config, self.run.path / CODEC)

    def _tensors(self, codes: NDArray[np.int64], wanted: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        device = self.distributed.device
        return torch.tensor(codes, device=device), torch.tensor(wanted, device=device)
