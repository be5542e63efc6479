"""How much memory a training takes: its first steps are run with tensors that have shapes and no contents.

Between two steps gradients are gone: an export, which is about as large as they are, and the past of a sample that is
heard take their place. On a CPU the process itself counts too, with all that it has loaded, as the system tells it.
"""

import itertools
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.linear import put
from duplex.backends.torch.memory import STEP_ON_CPU, resident
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.quantize import Quantized, quantizable
from duplex.backends.torch.state import Call, bind
from duplex.backends.torch.unfilled import unfilled
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import UsageError
from duplex.training.language_model.settings import LanguageModelSettings
from duplex.training.language_model.teacher import Teacher
from duplex.training.language_model.training_module import LanguageModelTrainingModule

__all__ = ["TrainingMemory", "predict_training"]


@attrs.frozen(kw_only=True)
class TrainingMemory:
    """What a training takes, in bytes."""

    programs: int = 0
    """On a CPU: the process that learns, without a model, and what libraries make for themselves once it runs."""
    model: int
    """The model's weights, those of adapters and of a teacher, and those of the codec that its samples are heard with.
    """
    optimizer: int
    """AdamW's two averages of what is learnt."""
    batch: int
    """Activations and gradients, at their highest point."""

    @property
    def total(self) -> int:
        """All of it together."""
        return self.programs + self.model + self.optimizer + self.batch

    def __str__(self) -> str:
        """Return it in a line."""
        parts = {"weights": self.model, "AdamW": self.optimizer, "activations and gradients": self.batch}
        parts |= {"programs": self.programs} if self.programs else {}
        each = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in parts.items())
        return f"memory: about {self.total / 1e9:.1f} GB: {each}"

    def check(self, there: int | None, device: str) -> None:
        """Check that a device has it; ``there`` is what it has free, ``None`` if that is not known.

        :raises UsageError: if not, telling what takes less
        """
        if there is not None and self.total > there:
            raise UsageError(
                f"{self}; {device} has {there / 1e9:.1f} GB free: take a smaller --batch or --frames, a "
                "smaller --lora, --base int8, or no --teacher"
            )


class _Storages(TorchDispatchMode):
    """Counts the bytes of all storages that operations made and that are still alive."""

    def __init__(self, frames: int) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] -- torch leaves its arguments untyped
        self._frames = frames
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 -- has no other name
            return self._frames  # the one number that a forward pass reads: how many positions there are
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return made

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Count no storage of these: an operation that returns a view of a weight makes nothing."""
        self._known.update(_key(tensor.untyped_storage()) for tensor in tensors)

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        storage: Any = tensor.untyped_storage()
        key = _key(storage)
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def predict_training(
    shape: LanguageModelConfig,
    settings: LanguageModelSettings,
    device: str = "cpu",
    *,
    codec: MimiConfig | None = None,
    teacher: LanguageModelConfig | None = None,
) -> TrainingMemory:
    """Return the memory of a training of a model of this shape, without reading any weights.

    Samples are heard with the ``codec``, and a model of the shape of the ``teacher`` is learnt from, if there are such.

    :raises ConfigError: if the settings do not fit the model
    """
    for each in (shape, teacher or shape):
        with torch.device("meta"):
            ring = LanguageModel(each).transformer.ring
        ring.window(Call(), 1, 1, torch.device(device))  # what is computed once and kept must not be without contents
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        module = LanguageModelTrainingModule(
            _model(shape, settings), settings, teacher=None if teacher is None else _teacher(teacher, settings)
        )
        module.model.prepare()
        held = {_key(tensor.untyped_storage()): tensor for tensor in _held(module)}
        learnt = sum(each.numel() * each.element_size() for each in module.parameters() if each.requires_grad)
        tokens = torch.zeros((settings.batch, 2 + shape.n_q, settings.frames), dtype=torch.int64)
        storages = _Storages(settings.frames)
        storages.leave_out(held.values())
        for _ in range(min(settings.accumulate, 2)):  # the second finds the gradients of the first
            with storages, torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                total: Any = module(tokens)["total"]
            with storages:
                total.backward()
            del total
        heard = _state_of(module.model)
    return TrainingMemory(
        programs=resident() + int(STEP_ON_CPU) if device == "cpu" else 0,
        model=sum(tensor.untyped_storage().nbytes() for tensor in held.values()) + _size_of(codec),
        optimizer=2 * learnt,
        batch=max(storages.peak, heard),
    )


def _size_of(codec: MimiConfig | None) -> int:
    """Return the bytes of a codec's weights, float32."""
    if codec is None:
        return 0
    with unfilled():
        mimi = Mimi(codec, codec.quantizer.n_q)
    return sum(tensor.numel() * tensor.element_size() for tensor in (*mimi.parameters(), *mimi.buffers()))


def _state_of(model: LanguageModel) -> int:
    """Return the bytes of the state of a conversation, in which a sample is made."""
    dtype = model.text_linear.weight.dtype
    return sum(
        torch.Size(each.shape).numel() * (each.dtype or dtype).itemsize for each in bind(model, "sample").values()
    )


def _model(shape: LanguageModelConfig, settings: LanguageModelSettings) -> LanguageModel:
    model = LanguageModel(shape)
    if settings.lora is None:
        return model
    dtype = torch.float32 if settings.lora.base == "float32" else torch.bfloat16
    for name, weight in list(model.named_parameters()):
        if settings.lora.base == "int8" and quantizable(name, weight.shape):
            put(model, name, Quantized("int8", weight.detach().to(torch.int8), torch.empty(len(weight))))
        else:
            put(model, name, weight.detach().to(dtype))
    return model


def _teacher(shape: LanguageModelConfig, settings: LanguageModelSettings) -> Teacher:
    model = LanguageModel(shape)
    for name, weight in list(model.named_parameters()):
        put(model, name, weight.detach().to(getattr(torch, settings.precision)))
    model.prepare()
    return Teacher(model, settings.teacher_share)


def _held(module: LanguageModelTrainingModule) -> Iterator[Tensor]:
    """Yield the model's weights, however they are held, the adapters' and the teacher's."""
    models = [module, module.model] if module.teacher is None else [module, module.model, module.teacher.model]
    for part in itertools.chain.from_iterable(model.modules() for model in models):
        for value in [*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values()]:
            yield from _tensors_of(value)


def _tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Quantized):
        return [value.data, value.scale]
    base = getattr(value, "base", None)
    return [] if base is None else _tensors_of(base)


def _key(storage: Any) -> int:
    """Return what tells one storage from another."""
    return storage._cdata  # noqa: SLF001 -- has no other name
