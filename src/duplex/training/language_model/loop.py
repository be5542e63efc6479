"""The language model's training: dialogues in, a whole checkpoint out."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
from torch import Tensor, nn

from duplex.backends.torch.allocator import trim
from duplex.backends.torch.memory import available
from duplex.checkpoints.checkpoint import Checkpoint, resolve
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.engine.loading import load_codec
from duplex.errors import CorpusError
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import codec_fingerprint, fingerprint
from duplex.training.distributed import DistributedContext
from duplex.training.language_model.export import export_adapters, export_language_model
from duplex.training.language_model.initial import StartingPoint
from duplex.training.language_model.memory import TrainingMemory, predict_training
from duplex.training.language_model.samples import Listener
from duplex.training.language_model.segments import SegmentSampler
from duplex.training.language_model.settings import LanguageModelSettings
from duplex.training.language_model.teacher import Teacher, find_teacher
from duplex.training.language_model.training_module import LanguageModelTrainingModule
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Trainer, TrainingProgress

__all__ = ["train_language_model"]

VALIDATION_BATCHES = 8
LARGE = 100_000_000
"""Weights of a model that may be too large to be trained here; to find out takes seconds."""
MODEL, ADAPTER, SAMPLES = "model", "adapter", "samples"
"""Folders in the run's: of the whole checkpoint, or of the adapter; of what the model says."""


def train_language_model(  # noqa: PLR0913 -- all but two are by keyword
    data: Path,
    out: Path,
    settings: LanguageModelSettings | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    codec: str | None = None,
    device: str = "auto",
    save_every: float = 120.0,
    progress: Callable[[TrainingProgress], None] | None = None,
    told: Callable[[TrainingMemory], None] | None = None,
) -> Path:
    """Train a language model on dialogues, or resume a run, and return the folder of the exported checkpoint.

    With ``settings.lora`` that is the adapter's folder, for ``duplex.load(start_from, adapter=folder)``.

    :param data: a folder of dialogues, as ``duplex train dialogues`` writes it, with its tokenizer
    :param out: the run's folder, new or that of an interrupted run
    :param config: as in ``config.json``; by default that of the model to start from, or ``TINY_LANGUAGE_MODEL``
    :param codec: the codec that the dialogues were made with, as :func:`duplex.load_codec` takes it; by default that
        of the model to start from, or the built-in one
    :param progress: told how far the run is, now and then
    :param told: told the memory that it will take, before anything is loaded
    :raises UsageError: if the device has less memory than that; a small model is only asked about with ``told``
    :raises CorpusError: if the dialogues are missing, damaged, or do not fit the configuration, codec or tokenizer
    :raises TrainingError: if ``out`` has another run or one on other data, or losses are no longer finite
    :raises ConfigError: if the configuration is invalid or unsupported, or is not that of the initial model, or a
        teacher's streams or tokens are others
    :raises CheckpointError: if the codec, the initial model or the teacher cannot be loaded
    :raises OutputError: if something cannot be written; the previous checkpoint is kept
    """
    chosen = settings or LanguageModelSettings()
    start = StartingPoint.find(chosen.start_from, config)
    teacher = find_teacher(chosen.teacher, start.shape)
    codec = codec or chosen.start_from or "tiny"
    distributed = DistributedContext.setup(device)
    segments = SegmentSampler(data, start.shape, chosen)
    _check_tokenizer(start, segments)
    if teacher is not None:
        _check_tokenizer(teacher, segments)
    found = resolve(codec, parts=("codec",))
    files = _other_files(data, segments, found)
    run = RunFolder(
        out,
        {
            "kind": "language model",
            "config": start.model_config,
            "settings": chosen.as_json(),
            "dialogues": attrs.asdict(segments.provenance),
            **({} if teacher is None or teacher.checkpoint is None else {"teacher": teacher.checkpoint.fingerprint}),
        },
        data=data,
        writes=distributed.is_main,
    )
    if distributed.is_main and (told is not None or start.size >= LARGE):
        memory = predict_training(
            start.shape, chosen, distributed.device.type, codec=found.mimi, teacher=teacher and teacher.shape
        )
        if told is not None:
            told(memory)
        memory.check(available(distributed.device), str(distributed.device))
    taught_by = None
    if teacher is not None and teacher.checkpoint is not None:
        taught_by = Teacher.read(teacher.checkpoint, chosen, distributed.device)
    model = LanguageModelTrainingModule(start.model(chosen, distributed.device), chosen, distributed, taught_by)
    trim()
    listener = Listener(load_codec(codec, device=device), Tokenizer.load(data / TOKENIZER), out / SAMPLES)
    config = start.model_config if chosen.lora is None else start.config
    trainer = _LanguageModelTrainer(model.to(distributed.device), segments, run, distributed, config, files, listener)
    trainer.run_to_end(save_every, progress)
    return out / (MODEL if chosen.lora is None else ADAPTER)


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
        listener: Listener,
    ) -> None:
        settings = model.settings
        shape = model.model.config
        self.parts = settings.accumulate
        # What only conversations of other kinds of models use: text of two streams, conditions, and further heads.
        self.leaves_out = bool(
            shape.demux_second_stream or shape.conditioners or shape.cross_attention or shape.extra_heads_num_heads
        )
        batch = settings.batch * settings.accumulate * distributed.world_size
        super().__init__(model, settings, run, distributed, batch * segments.seconds)
        model.model.prepare()
        self._model = model
        self._segments = segments
        self._config = config
        self._files = files
        self._listener = listener

    def losses(self, part: int = 0) -> dict[str, Tensor]:
        """Return the losses on this step's segments."""
        batch = self.step * self.parts + part
        self._model.generator.manual_seed(self._model.settings.seed * 2**32 + batch)
        return self.forward(self.tensor(self._segments.batch(batch, self.distributed.rank)))

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return all parameters as one group."""
        return {"all": list(self._model.parameters())}

    def validate(self) -> dict[str, float]:
        """Return the losses on the validation set, without the agent's own codes as inputs."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(VALIDATION_BATCHES):
            losses = self._model(self.tensor(self._segments.validation(index)), unaided=True)
            for name, value in losses.items():
                sums[name] += float(value) / VALIDATION_BATCHES
        return sums

    def write_outputs(self) -> None:
        """Write an export, and how the model answers now."""
        lora, adapters = self._model.settings.lora, self._model.adapters
        if lora is None or adapters is None:
            export_language_model(self._model.model, self._config, self._files, self.run.path / MODEL)
        else:
            export_adapters(adapters, lora, self._config, self.run.path / ADAPTER)
        self._listener.write(f"step-{self.step:06}", self._model.model, self.tensor(self._segments.validation(0)[0]))


def _check_tokenizer(start: StartingPoint, segments: SegmentSampler) -> None:
    """Check that the dialogues were made with the tokenizer of the model to start from, or of the teacher.

    :raises CorpusError: if they were not
    """
    found = start.checkpoint
    if found is None or (found.tokenizer and fingerprint(found.tokenizer) == segments.provenance.tokenizer):
        return
    raise CorpusError(
        f"the dialogues were made with another tokenizer than that of '{found.name}'; make them anew with: "
        f"duplex train dialogues --tokenizer {found.name}"
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
