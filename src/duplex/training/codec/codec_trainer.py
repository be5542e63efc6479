"""What the two trainings of a codec have in common: crops of a corpus in, samples and an exported codec out."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from duplex.atomic import make_folder
from duplex.audio.wav import WavWriter
from duplex.backends.torch.mimi import Mimi
from duplex.training.codec.codec_module import CodecModule
from duplex.training.codec.export import export_codec
from duplex.training.codec.settings import CropSettings
from duplex.training.distributed import DistributedContext
from duplex.training.run_folder import RunFolder
from duplex.training.trainer import Trainer

__all__ = ["CODEC", "CodecTrainer"]

CODEC = "codec"
"""The folder of the exported codec, in the run's."""
Module = TypeVar("Module", bound=CodecModule)
Crops = TypeVar("Crops")


class CodecTrainer(Trainer, Generic[Module, Crops]):
    """Trains a codec, or a part of one; subclasses say what the losses are."""

    VALIDATION_BATCHES: ClassVar[int]

    def __init__(
        self,
        model: Module,
        settings: CropSettings,
        crops: Crops,
        run: RunFolder,
        distributed: DistributedContext,
        config: Mapping[str, Any],
    ) -> None:
        seconds = settings.batch * settings.crop_frames / model.mimi.config.frame_rate
        super().__init__(model, settings, run, distributed, seconds * distributed.world_size)
        self.model: Module = model
        self.crops: Crops = crops
        self._config = config

    @property
    def exported(self) -> Mimi:
        """The codec that the run is for."""
        return self.model.mimi

    @abstractmethod
    def validation_losses(self, index: int) -> dict[str, Tensor]:
        """Return the losses on a batch of the validation set."""

    @abstractmethod
    def reconstructed(self) -> tuple[Tensor, Tensor]:
        """Return crops of the validation set, and what :attr:`exported` makes of them, float32 ``[batch, samples]``."""

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the parameters by the losses that they learn from."""
        return self.model.parameter_groups()

    def after_restore(self) -> None:
        """Recompute the codebooks' entries."""
        self.model.mimi.prepare()

    def validate(self) -> dict[str, float]:
        """Return the mean losses on the validation set."""
        sums: dict[str, float] = defaultdict(float)
        for index in range(self.VALIDATION_BATCHES):
            for name, value in self.validation_losses(index).items():
                sums[name] += float(value) / self.VALIDATION_BATCHES
        return sums

    @torch.no_grad()
    def write_outputs(self) -> None:
        """Write originals with their reconstructions, and an export."""
        both = torch.stack(self.reconstructed(), dim=1).flatten().cpu().numpy()
        path = self.run.path / "samples" / f"step-{self.step:06}.wav"
        make_folder(path.parent)
        with WavWriter(path, sample_rate=self.model.mimi.config.sample_rate, channels=1) as file:
            file.write(both)
        export_codec(self.exported, self._config, self.run.path / CODEC)
