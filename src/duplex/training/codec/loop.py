"""The codec's training: what happens at which step.

1. A new run starts from its seed, or from the weights of another codec.
2. For ``plain_steps`` encoder and latents learn alone; then the codebooks are set by k-means over many latents, what
   passes them is quantized from there on, and the decoder learns to make sound of it. A run that starts from a codec
   needs neither; there the heads learn alone first, for ``reading_steps``.
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
from duplex.checkpoints.config import MimiConfig
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.errors import ConfigError
from duplex.training.codec.crops import Crops, Float32
from duplex.training.codec.release import release
from duplex.training.codec.settings import TINY, CodecSettings
from duplex.training.codec.trained_mimi import TrainedMimi
from duplex.training.data.corpus import Corpus
from duplex.training.devices import Place
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Report, Trainer

__all__ = ["train_codec"]

VALIDATION_BATCHES = 4
SEEDING_BATCHES = 64
CODEC = "codec"


def train_codec(
    data: Path,
    out: Path,
    settings: CodecSettings | None = None,
    *,
    config: Mapping[str, Any] = TINY,
    start_from: Path | None = None,
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[Report], None] | None = None,
) -> Path:
    """Train a codec, or go on with a run, and return the folder of the released codec.

    :param data: a folder of shards, as ``duplex train data`` makes it
    :param out: the run's folder, new or one that was interrupted
    :param config: a codec's configuration, as in ``mimi_config.json``
    :param start_from: a folder with a codec of that configuration, whose weights are the first ones
    :raises CorpusError: if the data is missing, damaged, silent, or of another sample rate
    :raises TrainingError: if ``out`` holds another run, or losses are no longer finite
    :raises ConfigError: if the configuration cannot be run
    :raises OutputError: if something cannot be written; the last checkpoint stays
    """
    chosen = settings or CodecSettings()
    # The codebooks of a codec to start from stay; without one there is nothing to read yet.
    chosen = attrs.evolve(chosen, reading_steps=0) if start_from is None else attrs.evolve(chosen, plain_steps=0)
    shape = MimiConfig.from_dict(config, where="the codec's configuration")
    place = Place.choose(device)
    corpus = Corpus.open(data, shape.sample_rate)
    crops = Crops(corpus, chosen, shape.frame_size)
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
    model = TrainedMimi(shape, chosen, corpus.teacher_width, first).to(place.device)
    trainer = _CodecTrainer(model, crops, run, place, dict(config))
    with place:
        trainer.resume()
        trainer.train(save_every, progress)
    return out / CODEC


class _CodecTrainer(Trainer):
    """A run of the codec."""

    def __init__(
        self, model: TrainedMimi, crops: Crops, run: RunFolder, place: Place, config: dict[str, object]
    ) -> None:
        settings = model.settings
        heard = settings.batch * settings.crop_frames / model.mimi.config.frame_rate
        super().__init__(model, settings, run, place, heard * place.processes)
        self._model = model
        self._crops = crops
        self._config = config
        self._chosen = settings

    def begin_step(self) -> None:
        """Set the codebooks once, when quantizing begins."""
        if self.step == self._chosen.plain_steps and not self._model.started_from:
            self._seed_codebooks()

    def losses(self) -> dict[str, Tensor]:
        """Return the losses of this step's crops."""
        settings, step = self._chosen, self.step
        pcm, teacher = self._tensors(*self._crops.batch(step, self.place.rank))
        self._model.generator.manual_seed(settings.seed * 2**32 + step)
        return self._model(
            pcm,
            teacher,
            (torch.rand(len(pcm), generator=self.generator()) < settings.plain_share_at(step)).to(pcm.device),
            sounding=step >= settings.plain_steps,
            decoder_gradient=settings.decoder_gradient_at(step),
        )

    def learning_rate(self) -> float:
        """Return the rate of this step, the highest while only heads learn."""
        late = self.step - self._chosen.reading_steps
        return self._chosen.learning_rate if late < 0 else self._chosen.learning_rate_at(late)

    def groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return encoder and decoder."""
        return self._model.groups()

    def end_gradients(self) -> None:
        """While only heads learn, keep the codec as it is."""
        if self.step < self._chosen.reading_steps:
            self._model.mimi.zero_grad(set_to_none=True)

    def restored(self) -> None:
        """Compute the codebooks' entries."""
        self._model.mimi.prepare()

    def validated(self) -> dict[str, float]:
        """Return the losses on crops kept apart, everything quantized."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(VALIDATION_BATCHES):
            pcm, teacher = self._tensors(*self._crops.validation(index))
            quantized = torch.zeros(len(pcm), dtype=torch.bool, device=pcm.device)
            for name, value in self._model(pcm, teacher, quantized, sounding=True).items():
                sums[name] += float(value) / VALIDATION_BATCHES
        return sums

    @torch.no_grad()
    def show(self) -> None:
        """Write what went in and what came out, and a release."""
        if self.step <= self._chosen.plain_steps and not self._model.started_from:
            self._seed_codebooks()  # what is released has codebooks; those that stay come when quantizing begins
        pcm, _ = self._tensors(*self._crops.validation(0))
        self._model.eval()
        made = self._model.reconstruct(pcm)
        self._model.train()
        both = torch.stack([pcm, made], dim=1).flatten().cpu().numpy()
        path = self.run.path / "samples" / f"step-{self.step:06}.wav"
        make_folder(path.parent)
        with WavWriter(path, sample_rate=self._model.mimi.config.sample_rate, channels=1) as file:
            file.write(both)
        release(self._model.mimi, self._config, self.run.path / CODEC)

    def _seed_codebooks(self) -> None:
        latents = [
            self._model.latents(self._tensors(*self._crops.batch(self.step + index))[0])
            for index in range(SEEDING_BATCHES)
        ]
        self._model.seed_codebooks(torch.cat(latents), self._chosen.seed)

    def _tensors(self, pcm: Float32, teacher: Float32 | None) -> tuple[Tensor, Tensor | None]:
        device = self.place.device
        return torch.tensor(pcm, device=device), None if teacher is None else torch.tensor(teacher, device=device)


def _read_codec(folder: Path, wanted: MimiConfig) -> Mimi:
    """Read the codec to start from.

    :raises ConfigError: if it has another configuration
    :raises WeightsError: if its weights cannot be read
    """
    path = folder / MIMI_CONFIG
    if MimiConfig.from_dict(read_json(path, str(path)), where=str(path)) != wanted:
        raise ConfigError(f"{folder} holds a codec of another configuration; give that one with --config")
    return read_mimi(wanted, folder / MIMI_WEIGHTS, wanted.quantizer.n_q, torch.device("cpu"))
