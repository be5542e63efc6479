"""What a front is told when it begins: its models, the server's rules, and the descriptors that it has been given."""

import mmap
import os
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.checkpoints.kind_configs import SttConfig
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.checkpoints.voices import Voices
from duplex.engine.model import Model, VoiceActivityFactory
from duplex.errors import UsageError
from duplex.frame_model import ModelSpec
from duplex.options import SessionOptions
from duplex.server.fronts.records import command_shape, told_shape
from duplex.server.fronts.ring import RingShape
from duplex.server.listening import Listening
from duplex.server.logs import LogFormat
from duplex.server.settings import Settings
from duplex.server.telemetry.signals import Signals

__all__ = ["DESCRIPTORS", "FrontPlan", "ModelPlan", "SharedMemory", "rings_of", "size_of"]

DESCRIPTORS = ("bound", "link", "bell", "memory", "crowd")
"""Names of what a front is given: the socket to accept on, two sockets of its own, and memory."""


@attrs.frozen(kw_only=True)
class ModelPlan:
    """A model, without its weights: what conversations need of it beside its seats."""

    name: str
    spec: ModelSpec
    tokenizer: Tokenizer
    backend: str
    device: str
    dtype: str
    revision: str | None
    fingerprint: str
    adapter: str | None
    adapters: tuple[str, ...]
    memory: int | None
    defaults: SessionOptions
    stt: SttConfig | None
    conditioners: Mapping[str, ConditionerConfig]
    voice_activity: VoiceActivityFactory
    voices: Voices
    examples: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> "ModelPlan":
        """Return the plan of a model."""
        names = [field.name for field in attrs.fields(cls)]
        return cls(**{name: getattr(model, name) for name in names})


@attrs.frozen(kw_only=True)
class FrontPlan:
    """How a front begins. Numbers of descriptors are those of the front's process."""

    number: int
    models: Sequence[ModelPlan]
    settings: Settings
    listening: Listening
    folder: str
    """Where the fronts of one server find each other, and tickets."""
    log_format: LogFormat | None
    """Of the model's process; ``None`` if its logs go somewhere else."""
    signals: Signals | None
    """What it tells OpenTelemetry of its calls, ``None`` for nothing."""
    bound: int
    link: int
    bell: int
    memory: int
    crowd: int

    def to_bytes(self) -> bytes:
        """Return it as the front reads it.

        :raises UsageError: if a model has something that cannot be handed to another process
        """
        try:
            return pickle.dumps(self)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise UsageError(
                f"a model cannot be described to the front's processes ({error}); give it a detector and a tokenizer "
                "that can be pickled, or serve with one front"
            ) from None

    @classmethod
    def from_bytes(cls, data: bytes) -> "FrontPlan":
        """Read what :meth:`to_bytes` returned, from the process that has started this one."""
        plan: FrontPlan = pickle.loads(data)  # noqa: S301 -- from nobody else
        return plan


class SharedMemory:
    """Memory without a name, which is there until the last process that has its descriptor is gone."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.memory: Any = mmap.mmap(descriptor, size)

    @classmethod
    def of(cls, size: int) -> "SharedMemory":
        """Return so many bytes of new memory, all zero.

        :raises OSError: if there is no memory, or no descriptor; none is open then
        """
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("duplex-front")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        try:
            os.ftruncate(descriptor, size)
            return cls(descriptor, size)  # the mapping takes a descriptor of its own, which may be one too many
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Close the descriptor; the memory goes with the last array on it."""
        os.close(self.descriptor)


def rings_of(specs: Sequence[ModelSpec]) -> list[tuple[tuple[int, RingShape], tuple[int, RingShape]]]:
    """Return where in the memory of a front the rings of each model are: commands, and what seats tell."""
    rings: list[tuple[tuple[int, RingShape], tuple[int, RingShape]]] = []
    offset = 0
    for spec in specs:
        commands, told = command_shape(spec), told_shape(spec)
        rings.append(((offset, commands), (offset + commands.size, told)))
        offset += commands.size + told.size
    return rings


def size_of(specs: Sequence[ModelSpec]) -> int:
    """Return the bytes of the memory of a front."""
    return sum(command_shape(spec).size + told_shape(spec).size for spec in specs)
