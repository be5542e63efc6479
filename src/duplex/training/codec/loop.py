"""The codec's training loop.

1. A new run starts from its seed, or from the weights of another codec.
2. For ``plain_steps`` only the encoder is trained, unquantized; then the codebooks are initialized by k-means over many
   latents, quantization begins, and the decoder is trained too. A run that starts from a codec skips both; there only
   the heads are trained first, for ``reading_steps``.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from duplex.atomic import make_folder
from duplex.audio.wav import WavWriter
from duplex.backends.torch.codec import read_mimi
from duplex.backends.torch.mimi import Mimi
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import ConfigError
from duplex.training.codec.crops import CropSampler, Float32
from duplex.training.codec.export import export_codec
from duplex.training.codec.settings import TINY_CODEC, CodecSettings
from duplex.training.codec.training_module import MimiTrainingModule
from duplex.training.data.corpus import Corpus
from duplex.training.distributed import DistributedContext
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Trainer, TrainingProgress

__all__ = ["train_codec"]

VALIDATION_BATCHES = 4
SEEDING_BATCHES = 64
CODEC = "codec"


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
    :raises TrainingError: if ``out`` has another run, or losses are no longer finite
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
            "settings": attrs.asdict(chosen, filter=attrs.filters.exclude("steps")),
            "start_from": str(start_from.resolve()) if start_from else None,
            "teacher": corpus.teacher_width,
        },
    )
    model = MimiTrainingModule(shape, chosen, corpus.teacher_width, first).to(distributed.device)
    trainer = _CodecTrainer(model, crops, run, distributed, dict(config))
    with distributed:
        trainer.resume()
        trainer.train(save_every, progress)
    return out / CODEC


class _CodecTrainer(Trainer):
    """Trains the codec."""

    def __init__(
        self,
        model: MimiTrainingModule,
        crops: CropSampler,
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
        self._codec_settings = settings

    def before_step(self) -> None:
        """Initialize the codebooks once, when quantization begins."""
        if self.step == self._codec_settings.plain_steps and not self._model.started_from:
            self._initialize_codebooks()

    def losses(self, part: int = 0) -> dict[str, Tensor]:  # noqa: ARG002 -- one batch is a step
        """Return the losses on this step's crops."""
        settings, step = self._codec_settings, self.step
        pcm, teacher = self._tensors(*self._crops.batch(step, self.distributed.rank))
        self._model.generator.manual_seed(settings.seed * 2**32 + step)
        return self._model(
            pcm,
            teacher,
            (torch.rand(len(pcm), generator=self.generator()) < settings.plain_share_at(step)).to(pcm.device),
            with_audio=step >= settings.plain_steps,
            decoder_gradient=settings.decoder_gradient_at(step),
        )

    def learning_rate(self) -> float:
        """Return the learning rate of this step, the highest while only the heads are trained."""
        late = self.step - self._codec_settings.reading_steps
        return self._codec_settings.learning_rate if late < 0 else self._codec_settings.learning_rate_at(late)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the decoder's parameters, and all others."""
        return self._model.parameter_groups()

    def mask_gradients(self) -> None:
        """Freeze the codec while only the heads are trained."""
        if self.step < self._codec_settings.reading_steps:
            self._model.mimi.zero_grad(set_to_none=True)

    def after_restore(self) -> None:
        """Recompute the codebooks' entries."""
        self._model.mimi.prepare()

    def validate(self) -> dict[str, float]:
        """Return the losses on the validation set, everything quantized."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(VALIDATION_BATCHES):
            pcm, teacher = self._tensors(*self._crops.validation(index))
            quantized = torch.zeros(len(pcm), dtype=torch.bool, device=pcm.device)
            for name, value in self._model(pcm, teacher, quantized, with_audio=True).items():
                sums[name] += float(value) / VALIDATION_BATCHES
        return sums

    @torch.no_grad()
    def write_outputs(self) -> None:
        """Write originals with their reconstructions, and an export."""
        if self.step <= self._codec_settings.plain_steps and not self._model.started_from:
            self._initialize_codebooks()  # an export needs codebooks; the final ones come when quantization begins
        pcm, _ = self._tensors(*self._crops.validation(0))
        self._model.eval()
        made = self._model.reconstruct(pcm)
        self._model.train()
        both = torch.stack([pcm, made], dim=1).flatten().cpu().numpy()
        path = self.run.path / "samples" / f"step-{self.step:06}.wav"
        make_folder(path.parent)
        with WavWriter(path, sample_rate=self._model.mimi.config.sample_rate, channels=1) as file:
            file.write(both)
        export_codec(self._model.mimi, self._config, self.run.path / CODEC)

    def _initialize_codebooks(self) -> None:
        latents = [
            self._model.latents(self._tensors(*self._crops.batch(self.step + index))[0])
            for index in range(SEEDING_BATCHES)
        ]
        self._model.initialize_codebooks(torch.cat(latents), self._codec_settings.seed)

    def _tensors(self, pcm: Float32, teacher: Float32 | None) -> tuple[Tensor, Tensor | None]:
        device = self.distributed.device
        return torch.tensor(pcm, device=device), None if teacher is None else torch.tensor(teacher, device=device)


def _read_codec(folder: Path, wanted: MimiConfig) -> Mimi:
    """Read the initial codec.

    :raises ConfigError: if it has another configuration
    :raises WeightsError: if its weights cannot be read
    """
    path = folder / MIMI_CONFIG
    if MimiConfig.from_dict(read_json(path, str(path)), where=str(path)) != wanted:
        raise ConfigError(f"{folder} holds a codec of another configuration; give that one with --config")
    return read_mimi(wanted, folder / MIMI_WEIGHTS, wanted.quantizer.n_q, torch.device("cpu"))
