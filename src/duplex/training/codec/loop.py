"""The codec's training loop.

1. A new run starts from its seed, or from the weights of another codec.
2. For ``plain_steps`` only the encoder is trained, unquantized; then the codebooks are initialized by k-means over many
   latents, quantization begins, and the decoder is trained too. A run that starts from a codec skips both; there only
   the heads are trained first, for ``reading_steps``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from duplex.backends.torch.codec import read_mimi
from duplex.backends.torch.mimi import Mimi
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import ConfigError
from duplex.training.codec.codec_trainer import CODEC, CodecTrainer
from duplex.training.codec.crops import CropSampler, Float32
from duplex.training.codec.settings import TINY_CODEC, CodecSettings
from duplex.training.codec.training_module import MimiTrainingModule
from duplex.training.data.corpus import Corpus
from duplex.training.distributed import DistributedContext
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import TrainingProgress

__all__ = ["train_codec"]

SEEDING_BATCHES = 64


def train_codec(
    data: Path,
    out: Path,
    settings: CodecSettings | None = None,
    *,
    config: Mapping[str, Any] = TINY_CODEC,
    start_from: Path | None = None,
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Path:
    """Train a codec, or resume a run, and return the folder of the exported codec.

    :param data: a folder of shards, as ``duplex train data`` writes it
    :param out: the run's folder, new or that of an interrupted run
    :param config: a codec's configuration, as in ``mimi_config.json``
    :param start_from: a folder with a codec of that configuration, for the initial weights
    :raises CorpusError: if the data is missing, damaged, silent, or of another sample rate
    :raises TrainingError: if ``out`` has another run or one on other data, or losses are no longer finite
    :raises ConfigError: if the configuration is invalid or unsupported
    :raises OutputError: if something cannot be written; the previous checkpoint is kept
    """
    chosen = settings or CodecSettings()
    # The codebooks of an initial codec are kept; without one there is nothing for the heads to read yet.
    chosen = attrs.evolve(chosen, reading_steps=0) if start_from is None else attrs.evolve(chosen, plain_steps=0)
    shape = MimiConfig.from_dict(config, where="the codec's configuration")
    distributed = DistributedContext.setup(device)
    corpus = Corpus.open(data, shape.sample_rate)
    crops = CropSampler(corpus, chosen, shape.frame_size)
    first = None if start_from is None else _read_codec(start_from, shape)
    run = RunFolder(
        out,
        {
            "kind": "codec",
            "config": dict(config),
            "settings": chosen.as_json(),
            "start_from": str(start_from.resolve()) if start_from else None,
            "teacher": corpus.teacher_width,
        },
        data=data,
        writes=distributed.is_main,
    )
    model = MimiTrainingModule(shape, chosen, corpus.teacher_width, first).to(distributed.device)
    _CodecTrainer(model, chosen, crops, run, distributed, config).run_to_end(save_every, progress)
    return out / CODEC


class _CodecTrainer(CodecTrainer[MimiTrainingModule, CropSampler]):
    """Trains the codec."""

    VALIDATION_BATCHES: ClassVar[int] = 4

    def before_step(self) -> None:
        """Initialize the codebooks once, when quantization begins."""
        if self.step == self.model.settings.plain_steps and not self.model.started_from:
            self._initialize_codebooks()

    def losses(self, part: int = 0) -> dict[str, Tensor]:  # noqa: ARG002 -- one batch is a step
        """Return the losses on this step's crops."""
        settings, step = self.model.settings, self.step
        pcm, teacher = self._tensors(*self.crops.batch(step, self.distributed.rank))
        self.model.generator.manual_seed(settings.seed * 2**32 + step)
        return self.forward(
            pcm,
            teacher,
            (torch.rand(len(pcm), generator=self.generator()) < settings.plain_share_at(step)).to(pcm.device),
            with_audio=step >= settings.plain_steps,
            decoder_gradient=settings.decoder_gradient_at(step),
        )

    def learning_rate(self) -> float:
        """Return the learning rate of this step, the highest while only the heads are trained."""
        settings = self.model.settings
        late = self.step - settings.reading_steps
        return settings.learning_rate if late < 0 else settings.learning_rate_at(late)

    def mask_gradients(self) -> None:
        """Freeze the codec while only the heads are trained."""
        if self.step < self.model.settings.reading_steps:
            self.model.mimi.zero_grad(set_to_none=True)

    def validation_losses(self, index: int) -> dict[str, Tensor]:
        """Return the losses on a batch of the validation set, everything quantized."""
        pcm, teacher = self._tensors(*self.crops.validation(index))
        quantized = torch.zeros(len(pcm), dtype=torch.bool, device=pcm.device)
        return self.model(pcm, teacher, quantized, with_audio=True)

    def reconstructed(self) -> tuple[Tensor, Tensor]:
        """Return crops of the validation set and their reconstructions."""
        if self.step <= self.model.settings.plain_steps and not self.model.started_from:
            self._initialize_codebooks()  # an export needs codebooks; the final ones come when quantization begins
        pcm, _ = self._tensors(*self.crops.validation(0))
        self.model.eval()
        made = self.model.reconstruct(pcm)
        self.model.train()
        return pcm, made

    def _initialize_codebooks(self) -> None:
        latents = [
            self.model.latents(self.tensor(self.crops.batch(self.step + index)[0])) for index in range(SEEDING_BATCHES)
        ]
        self.model.initialize_codebooks(torch.cat(latents), self.model.settings.seed)

    def _tensors(self, pcm: Float32, teacher: Float32 | None) -> tuple[Tensor, Tensor | None]:
        return self.tensor(pcm), None if teacher is None else self.tensor(teacher)


def _read_codec(folder: Path, wanted: MimiConfig) -> Mimi:
    """Read the initial codec.

    :raises ConfigError: if it has another configuration
    :raises WeightsError: if its weights cannot be read
    """
    path = folder / MIMI_CONFIG
    if MimiConfig.from_dict(read_json(path, str(path)), where=str(path)) != wanted:
        raise ConfigError(f"{folder} holds a codec of another configuration; give that one with --config")
    return read_mimi(wanted, folder / MIMI_WEIGHTS, wanted.quantizer.n_q, torch.device("cpu"))
