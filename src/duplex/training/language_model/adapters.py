"""Adapters of low rank on a language model that stays as it is (LoRA, arXiv 2106.09685).

Every linear map of the model gets one, as in the published fine-tuning; of maps that have a set of weights for each
codebook, every set. At the beginning an adapter adds nothing. Embeddings are no linear maps: on request they are learnt
as they are, whole.
"""

from collections.abc import Iterator
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.embedding import TokenEmbedding
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.linear import Projection, linear
from duplex.backends.torch.low_rank import LowRank
from duplex.errors import ConfigError
from duplex.training.language_model.settings import LoraSettings

__all__ = ["Adapters"]

_FACTORS = "down", "up"


@attrs.frozen
class _Place:
    """A matrix of the model that gets an adapter: where it lies, and how many sets of weights are in its rows."""

    name: str
    """As in the model's ``state_dict``."""
    owner: nn.Module
    attribute: str
    sets: int = 1

    @property
    def published(self) -> list[str]:
        """The published names of the module that each set is."""
        name = self.name.removeprefix("depth.")
        for ending, stepwise in ((".in_proj_weight", "in_projs"), (".out_proj.weight", "out_projs")):
            if name.endswith(ending):
                return [f"{name.removesuffix(ending)}.{stepwise}.{index}" for index in range(self.sets)]
        return [name.removesuffix(".weight")]


class AdaptedLinear(nn.Module):
    """A linear map without a bias, with its adapter."""

    def __init__(self, adapted: LowRank) -> None:
        super().__init__()
        self._adapted = adapted

    @property
    def weight(self) -> Any:
        """The matrix without its adapter."""
        return self._adapted.base

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` ``[..., in]``."""
        return linear(x, self._adapted)


class Adapters(nn.Module):
    """The parameters that are learnt, in float32, by the names of the published layout with ``/`` for each dot.

    Making them changes ``model``: its matrices become :class:`LowRank`, of which these are the factors.

    :raises ConfigError: if the embeddings are to be learnt and the model has other than plain ones
    """

    def __init__(self, model: LanguageModel, settings: LoraSettings, seed: int) -> None:
        super().__init__()
        self.factors: nn.ParameterDict = nn.ParameterDict()
        self.embeddings: nn.ParameterDict = nn.ParameterDict()
        self._places = list(_places(model))
        generator = torch.Generator().manual_seed(seed)
        for place in self._places:
            self._adapt(model, place, settings, generator)
        for name, module in _embeddings(model) if settings.embeddings else ():
            self._learn_whole(name, module)

    def _adapt(self, model: LanguageModel, place: _Place, settings: LoraSettings, generator: torch.Generator) -> None:
        base: Any = getattr(place.owner, place.attribute)
        device = model.text_linear.weight.device
        rows, columns = base.data.shape
        if getattr(base, "kind", None) == "int4":
            columns *= 2
        down = torch.empty(place.sets * settings.rank, columns).normal_(std=columns**-0.5, generator=generator)
        low, high = nn.Parameter(down.to(device)), nn.Parameter(torch.zeros(rows, settings.rank, device=device))
        for kind, parameter in zip(_FACTORS, (low, high), strict=True):
            self.factors[_key(f"{place.name}.{kind}")] = parameter
        adapted = LowRank(base, low, high, settings.scaling)
        if isinstance(place.owner, nn.Linear):
            parent, _, last = place.name.removesuffix(".weight").rpartition(".")
            setattr(model.get_submodule(parent), last, AdaptedLinear(adapted))
        else:
            delattr(place.owner, place.attribute)
            setattr(place.owner, place.attribute, adapted)

    def _learn_whole(self, name: str, module: TokenEmbedding) -> None:
        dtype = module.weight.dtype
        module.weight = nn.Parameter(module.weight.detach().float().clone())
        module.register_forward_hook(lambda _module, _inputs, embedded: embedded.to(dtype))
        self.embeddings[_key(name)] = module.weight

    def published(self) -> dict[str, Tensor]:
        """Return the tensors of ``lora.safetensors``, in bfloat16 as moshi-finetune saves them."""
        tensors: dict[str, Tensor] = {}
        for place in self._places:
            for half, kind in zip("AB", _FACTORS, strict=True):
                factor = self.factors[_key(f"{place.name}.{kind}")]
                for module, part in zip(place.published, factor.chunk(place.sets), strict=True):
                    tensors[f"{module}.lora_{half}.weight"] = part
        for key, embedding in self.embeddings.items():
            tensors[key.replace("/", ".").removeprefix("depth.")] = embedding
        return {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def _places(model: LanguageModel) -> Iterator[_Place]:
    """Yield the matrices that get adapters."""
    stacked = {id(each.out_proj): each.sets for each in model.modules() if isinstance(each, StackedAttention)}
    for name, module in list(cast(Any, model).named_modules()):  # torch leaves its type open
        if isinstance(module, Attention | StackedAttention):
            sets = module.sets if isinstance(module, StackedAttention) else 1
            yield _Place(f"{name}.in_proj_weight", module, "in_proj_weight", sets)
        elif isinstance(module, Projection | nn.Linear):
            yield _Place(f"{name}.weight", module, "weight", stacked.get(id(module), 1))


def _embeddings(model: LanguageModel) -> Iterator[tuple[str, TokenEmbedding]]:
    for name, module in cast(Any, model).named_modules():
        if not isinstance(module, TokenEmbedding):
            continue
        if type(module) is not TokenEmbedding:
            raise ConfigError(
                "the model's embeddings are of low rank or of two streams in one token, and are not learnt whole; "
                "leave --embeddings out"
            )
        yield f"{name}.weight", module


def _key(name: str) -> str:
    """Return a name that torch takes for a parameter."""
    return name.replace(".", "/")
