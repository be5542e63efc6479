"""The codec's training, step by step.

1. A new run starts from its seed, or from the weights of another codec; a run that is there goes on at its last
   checkpoint. Everything that is random depends on the seed and the step alone.
2. For ``plain_steps`` encoder and latents learn alone; then the codebooks are set by k-means over many latents, what
   passes them is quantized from there on, and the decoder learns to make sound of it. A run that starts from a codec
   needs neither; there the heads learn alone first, for ``reading_steps``.
3. A checkpoint is written every ``save_every`` seconds, at the end, and when the run is interrupted. Samples, curves
   and a release are written with it, each time a tenth of the run is done.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from duplex.backends.torch.codec import load_mimi
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.state import Call
from duplex.config import MimiConfig
from duplex.errors import ConfigError, TrainingError
from duplex.layout import MIMI_CONFIG, MIMI_WEIGHTS, read_json
from duplex.process.files import make_folder
from duplex.training.codec.crops import Crops, Float32
from duplex.training.codec.release import release
from duplex.training.codec.settings import TINY, CodecSettings
from duplex.training.codec.trained_mimi import TrainedMimi
from duplex.training.data.corpus import Corpus
from duplex.training.devices import Place
from duplex.training.interrupts import interrupts_between_steps
from duplex.training.run_folder import RunFolder
from duplex.wav import WavWriter

__all__ = ["Report", "train_codec"]

LOG_EVERY = 25
VALIDATE_EVERY = 500
VALIDATION_BATCHES = 4
SEEDING_BATCHES = 64
GRADIENT_NORM = 1.0
LARGEST_DEVIATION = 0.1
"""Of what bfloat16 hears from what float32 hears, relative to its size; rounding makes it 0.01."""
CODEC = "codec"


@attrs.frozen(kw_only=True)
class Report:
    """How far a run is: steps done and wanted, seconds of audio learnt from in a second, and the mean losses."""

    step: int
    steps: int
    speed: float
    losses: Mapping[str, float]


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
    shape = MimiConfig.from_mapping(config, where="the codec's configuration")
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
    trainer = _Trainer(model, crops, run, place, dict(config))
    with place:
        trainer.resume()
        trainer.train(save_every, progress)
    return out / CODEC


class _Trainer:
    """A run in memory."""

    def __init__(
        self, model: TrainedMimi, crops: Crops, run: RunFolder, place: Place, config: dict[str, object]
    ) -> None:
        self._model = model
        self._crops = crops
        self._run = run
        self._place = place
        self._config = config
        self._settings = model.settings
        self._optimizer: Any = torch.optim.AdamW(
            model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self._step = 0
        self._sums: dict[str, float] = defaultdict(float)
        self._dtype: torch.dtype | None = None

    def resume(self) -> None:
        """Go on at the last checkpoint, if there is one."""
        saved = self._run.load(self._place.device)
        if saved is None:
            return
        self._model.load_state_dict(saved["model"])
        self._model.mimi.prepare()
        self._optimizer.load_state_dict(saved["optimizer"])
        self._step = saved["step"]

    def train(self, save_every: float, progress: Callable[[Report], None] | None) -> None:
        """Make the steps that are left."""
        settings = self._settings
        tenth = max(1, settings.steps // 10)
        saved_at = logged_at = time.monotonic()
        self._dtype = self._right_dtype()
        with interrupts_between_steps() as check:
            while self._step < settings.steps:
                self._make_step()
                last = self._step == settings.steps
                if self._step % LOG_EVERY == 0 or last:
                    now = time.monotonic()
                    report = self._logged(now - logged_at)
                    logged_at = now
                    if progress and self._place.leads:
                        progress(report)
                if self._step % tenth == 0 or last:
                    self._show()
                interrupted = check()
                if last or interrupted or time.monotonic() - saved_at > save_every:
                    self._save()
                    saved_at = time.monotonic()
                if interrupted:
                    raise KeyboardInterrupt

    def _make_step(self) -> None:
        settings, step = self._settings, self._step
        if step == settings.plain_steps and not self._model.started_from:
            self._seed_codebooks()
        pcm, teacher = self._tensors(*self._crops.batch(step, self._place.rank))
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        self._model.generator.manual_seed(settings.seed * 2**32 + step)
        unquantized = torch.rand(len(pcm), generator=generator) < settings.plain_share_at(step)
        reading = step < settings.reading_steps
        for group in self._optimizer.param_groups:
            group["lr"] = (
                settings.learning_rate if reading else settings.learning_rate_at(step - settings.reading_steps)
            )
        with self._autocast():
            losses: dict[str, Tensor] = self._model(
                pcm,
                teacher,
                unquantized.to(pcm.device),
                sounding=step >= settings.plain_steps,
                decoder_gradient=settings.decoder_gradient_at(step),
            )
        total = losses["total"]
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss is no longer finite at step {step}; it would be so again: "
                "start anew in another folder, with a smaller --learning-rate"
            )
        self._optimizer.zero_grad(set_to_none=True)
        cast("Any", total).backward()
        self._place.average(self._model)
        norms = {
            f"gradient_{name}": torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            for name, parameters in self._model.parts().items()
        }
        if reading:
            self._model.mimi.zero_grad(set_to_none=True)
        self._optimizer.step()
        self._step += 1
        for name, value in {**losses, **norms}.items():
            self._sums[name] += float(value.detach())
        self._sums["count"] += 1

    def _seed_codebooks(self) -> None:
        latents = [
            self._model.latents(self._tensors(*self._crops.batch(self._step + index))[0])
            for index in range(SEEDING_BATCHES)
        ]
        self._model.seed_codebooks(torch.cat(latents), self._settings.seed)

    def _logged(self, seconds: float) -> Report:
        count = self._sums.pop("count")
        losses = {name: value / count for name, value in self._sums.items()}
        self._sums.clear()
        if self._step % VALIDATE_EVERY == 0 or self._step == self._settings.steps:
            losses |= self._validated()
        self._run.log(self._step, losses)
        heard = self._settings.batch * self._settings.crop_frames / self._model.mimi.config.frame_rate
        speed = count * heard * self._place.processes / seconds
        return Report(step=self._step, steps=self._settings.steps, speed=speed, losses=losses)

    @torch.no_grad()
    def _validated(self) -> dict[str, float]:
        """Return the losses on crops kept apart, everything quantized."""
        sums: dict[str, float] = defaultdict(float)
        self._model.eval()
        for index in range(VALIDATION_BATCHES):
            pcm, teacher = self._tensors(*self._crops.validation(index))
            quantized = torch.zeros(len(pcm), dtype=torch.bool, device=pcm.device)
            for name, value in self._model(pcm, teacher, quantized, sounding=True).items():
                sums[f"validation_{name}"] += float(value) / VALIDATION_BATCHES
        self._model.train()
        return sums

    def _save(self) -> None:
        if self._place.leads:
            self._run.save(
                {"step": self._step, "model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}
            )

    @torch.no_grad()
    def _show(self) -> None:
        """Write samples, curves and a release."""
        if not self._place.leads:
            return
        pcm, _ = self._tensors(*self._crops.validation(0))
        self._model.eval()
        made = self._model.reconstruct(pcm)
        self._model.train()
        both = torch.stack([pcm, made], dim=1).flatten().cpu().numpy()
        path = self._run.path / "samples" / f"step-{self._step:06}.wav"
        make_folder(path.parent)
        with WavWriter(path, sample_rate=self._model.mimi.config.sample_rate, channels=1) as file:
            file.write(both)
        self._run.plot()
        release(self._model.mimi, self._config, self._run.path / CODEC)

    def _tensors(self, pcm: Float32, teacher: Float32 | None) -> tuple[Tensor, Tensor | None]:
        device = self._place.device
        return torch.tensor(pcm, device=device), None if teacher is None else torch.tensor(teacher, device=device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._place.device.type, self._dtype, enabled=self._dtype is not None)

    @torch.no_grad()
    def _right_dtype(self) -> torch.dtype | None:
        """Return bfloat16, or ``None`` where this machine's bfloat16 is wrong.

        Some processors' convolutions of 16 channels by a stride of 4 read every tap at twice its place in bfloat16: a
        codec learns to live with it, its losses fall, and it understands nothing anywhere else.
        """
        pcm, _ = self._tensors(*self._crops.validation(0))
        exact = self._model.mimi.listen(pcm, Call())
        with torch.autocast(self._place.device.type, torch.bfloat16):
            rounded = self._model.mimi.listen(pcm, Call()).float()
        deviation = (rounded - exact).square().mean() / exact.square().mean()
        return torch.bfloat16 if float(deviation) < LARGEST_DEVIATION**2 else None


def _read_codec(folder: Path, wanted: MimiConfig) -> Mimi:
    """Read the codec to start from.

    :raises ConfigError: if it has another configuration
    :raises WeightsError: if its weights cannot be read
    """
    path = folder / MIMI_CONFIG
    if MimiConfig.from_mapping(read_json(path, str(path)), where=str(path)) != wanted:
        raise ConfigError(f"{folder} holds a codec of another configuration; give that one with --config")
    return load_mimi(wanted, folder / MIMI_WEIGHTS, wanted.quantizer.n_q, torch.device("cpu"))
