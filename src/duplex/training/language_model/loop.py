"""The language model's training: dialogues in, a whole checkpoint out."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.torch.language_model import LanguageModel, read_language_model
from duplex.checkpoints.checkpoint import Checkpoint, resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, CheckpointLayout
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.errors import ConfigError, CorpusError
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import codec_fingerprint, fingerprint
from duplex.training.distributed import DistributedContext
from duplex.training.language_model.export import export_language_model
from duplex.training.language_model.segments import SegmentSampler
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL, LanguageModelSettings
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Trainer, TrainingProgress

__all__ = ["train_language_model"]

VALIDATION_BATCHES = 8
MODEL = "model"
"""The folder of the release, in the run's."""


def train_language_model(
    data: Path,
    out: Path,
    settings: LanguageModelSettings | None = None,
    *,
    config: Mapping[str, Any] = TINY_LANGUAGE_MODEL,
    codec: str = "tiny",
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Path:
    """Train a language model on dialogues, or resume a run, and return the folder of the exported checkpoint.

    :param data: a folder of dialogues, as ``duplex train dialogues`` writes it, with its tokenizer
    :param out: the run's folder, new or that of an interrupted run
    :param config: as in ``config.json``; only the language model's part is used
    :param codec: the codec that the dialogues were made with, as :func:`duplex.load_codec` takes it
    :raises CorpusError: if the dialogues are missing, damaged, or do not fit the configuration, codec or tokenizer
    :raises TrainingError: if ``out`` has another run, or losses are no longer finite
    :raises ConfigError: if the configuration is invalid or unsupported, or is not that of the initial model
    :raises CheckpointError: if the codec or the initial model cannot be loaded
    :raises OutputError: if something cannot be written; the previous checkpoint is kept
    """
    chosen = settings or LanguageModelSettings()
    config = {key: value for key, value in config.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    shape = LanguageModelConfig.from_dict(config, where="the language model's configuration")
    distributed = DistributedContext.setup(device)
    segments = SegmentSampler(data, shape, chosen)
    files = _other_files(data, segments, resolve(codec, parts=("codec",)))
    first = None if chosen.start_from is None else _read_model(chosen.start_from, shape, segments)
    run = RunFolder(
        out,
        {
            "kind": "language model",
            "config": dict(config),
            "settings": attrs.asdict(chosen, filter=attrs.filters.exclude("steps")),
            "dialogues": attrs.asdict(segments.provenance),
        },
    )
    model = LanguageModelTrainingModule(shape, chosen, first)
    trainer = _LanguageModelTrainer(model.to(distributed.device), segments, run, distributed, dict(config), files)
    with distributed:
        trainer.resume()
        trainer.train(save_every, progress)
    return out / MODEL


class _LanguageModelTrainer(Trainer):
    """Trains the language model."""

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.95)
    WEIGHT_DECAY: ClassVar[float] = 0.1

    def __init__(
        self,
        model: LanguageModelTrainingModule,
        segments: SegmentSampler,
        run: RunFolder,
        distributed: DistributedContext,
        config: Mapping[str, Any],
        files: Mapping[str, bytes],
    ) -> None:
        settings = model.settings
        super().__init__(model, settings, run, distributed, settings.batch * segments.seconds * distributed.world_size)
        model.model.prepare()
        self._model = model
        self._segments = segments
        self._config = config
        self._files = files

    def losses(self) -> dict[str, Tensor]:
        """Return the losses on this step's segments."""
        self._model.generator.manual_seed(self._model.settings.seed * 2**32 + self.step)
        return self._model(self._tensor(self._segments.batch(self.step, self.distributed.rank)))

    def learning_rate(self) -> float:
        """Return the learning rate of this step."""
        return self._model.settings.learning_rate_at(self.step)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return all parameters as one group."""
        return {"all": list(self._model.parameters())}

    def validate(self) -> dict[str, float]:
        """Return the losses on the validation set, without the agent's own codes as inputs."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(VALIDATION_BATCHES):
            losses = self._model(self._tensor(self._segments.validation(index)), unaided=True)
            for name, value in losses.items():
                sums[name] += float(value) / VALIDATION_BATCHES
        return sums

    def write_outputs(self) -> None:
        """Write an export."""
        export_language_model(self._model.model, self._config, self._files, self.run.path / MODEL)

    def _tensor(self, tokens: Any) -> Tensor:
        return torch.tensor(tokens, device=self.distributed.device)


def _read_model(name: str, wanted: LanguageModelConfig, segments: SegmentSampler) -> LanguageModel:
    """Read the initial model.

    :raises ConfigError: if it has another configuration
    :raises CorpusError: if it has another tokenizer than the dialogues
    """
    found = resolve(name, parts=("model",))
    if found.language_model != wanted or found.weights is None:
        raise ConfigError(f"'{name}' is a model of another configuration; give that one with --config")
    if found.tokenizer is None or fingerprint(found.tokenizer) != segments.provenance.tokenizer:
        raise CorpusError(
            f"the dialogues were made with another tokenizer than that of '{name}'; make them anew with: duplex train "
            f"dialogues --tokenizer {name}"
        )
    return read_language_model(
        wanted, found.weights, dtype=torch.float32, device=torch.device("cpu"), adapter=found.adapter
    )


def _other_files(data: Path, segments: SegmentSampler, codec: Checkpoint) -> dict[str, bytes]:
    """Return the other files of the exported checkpoint: tokenizer and codec.

    :raises CorpusError: if the tokenizer or the codec is not that of the dialogues
    """
    tokenizer = data / TOKENIZER
    Tokenizer.load(tokenizer).check_vocab_size(segments.provenance.text_vocabulary)
    if fingerprint(tokenizer) != segments.provenance.tokenizer:
        raise CorpusError(f"{tokenizer} is not the tokenizer that the dialogues were made with; make them anew")
    if codec.mimi_weights is None or codec_fingerprint(codec) != segments.provenance.codec:
        raise CorpusError(f"{data} was made with another codec than '{codec.name}'; give that one with --codec")
    return {
        TOKENIZER: tokenizer.read_bytes(),
        MIMI_CONFIG: (json.dumps(attrs.asdict(codec.mimi), indent=1) + "\n").encode(),
        MIMI_WEIGHTS: codec.mimi_weights.read_bytes(),
    }
