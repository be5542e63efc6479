"""Several adapters on one loaded model, of which each session may choose one.

Their matrices lie beside the model's, in its dtype, filled up with zeros to the largest rank that a matrix has.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from duplex.backends.torch.adapted import NO_ADAPTER, Adapted, AdapterRows, LowRankSum
from duplex.backends.torch.adapter import AdapterTensors
from duplex.backends.torch.attention import Attention
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.linear import Projection, Weight, part, put
from duplex.checkpoints.adapters import Adapter, AdapterInfo
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import projection_rows
from duplex.errors import UsageError
from duplex.options import unknown_adapter

__all__ = ["AdapterBank", "adapter_numbers"]

TEXT = "text_linear.weight"


@attrs.frozen(eq=False)
class AdapterBank:
    """The adapters of a language model, which have been put beside its weights."""

    fingerprints: Mapping[str, str]
    """Of each, by the name that sessions choose it by."""
    rows: AdapterRows
    text: LowRankSum | None
    """What is added to the text's logits."""

    @classmethod
    def of(
        cls, model: nn.Module, config: LanguageModelConfig, adapters: Mapping[str, Adapter], outputs: Mapping[str, int]
    ) -> "AdapterBank":
        """Put adapters beside the weights of a model, which have been laid out.

        ``outputs`` says how many rows each matrix has, by its published name.

        :raises UsageError: if one changes what a session cannot have of its own
        :raises WeightsError: if a file can no longer be read
        """
        rows, text, like = AdapterRows(), None, model.get_parameter(TEXT)
        places = dict(_places(model))
        _check(adapters, {*places, TEXT})
        with ExitStack() as files:
            opened = [files.enter_context(AdapterTensors(adapter)) for adapter in adapters.values()]
            for name in sorted({name for adapter in adapters.values() for name in adapter.info.changes}):
                place = places.get(name)
                parts = _parts(config, name, outputs[name], place)
                sums = [_low_rank_sum(opened, name, part, rows, like) for part in parts]
                if place is None:
                    text = sums[0]
                else:
                    place.adapt(sums)
        return cls({name: _fingerprint(adapter) for name, adapter in adapters.items()}, rows, text)

    def number(self, name: str | None) -> int:
        """Return the number of an adapter's rows.

        :raises UsageError: if there is none of this name
        """
        if name is None:
            return NO_ADAPTER
        if name not in self.fingerprints:
            raise unknown_adapter(name, self.fingerprints)
        return 1 + list(self.fingerprints).index(name)


def adapter_numbers(model: nn.Module, config: LanguageModelConfig, adapters: Collection[AdapterInfo]) -> int:
    """Return how many numbers adapters take beside the weights of a model that has not been laid out.

    Of each matrix that one of them changes, every one has as much as that of the largest rank, be it zeros.
    """
    places, numbers = dict(_places(model)), 0
    for name in {name for adapter in adapters for name in adapter.changes} & {*places, TEXT}:
        place = places.get(name)
        outputs, inputs = (model.get_parameter(TEXT) if place is None else place.weight).shape
        for rows in _parts(config, name, outputs, place):
            ranks = (adapter.changes[name].rank(rows) for adapter in adapters if name in adapter.changes)
            numbers += len(adapters) * max(ranks) * (inputs + len(rows))
    return numbers


@attrs.frozen(eq=False)
class _Place:
    """Where a matrix is; ``sets`` says of how many sets of weights, if they are multiplied one at a time."""

    module: nn.Module
    last: str
    sets: int | None = None

    @property
    def weight(self) -> Any:
        """The matrix: a tensor, until the model has been laid out."""
        return getattr(self.module, self.last)

    def adapt(self, sums: Sequence[LowRankSum | None]) -> None:
        """Put what adapters add beside each part of the matrix."""
        weight: Weight | tuple[Weight, ...] = self.weight
        bases: Sequence[Any] = weight if isinstance(weight, tuple) else [weight]
        if len(bases) < len(sums):
            bases = [part(weight, index, len(sums)) for index in range(len(sums))]
        adapted: tuple[Weight, ...] = tuple(
            base if added is None else Adapted(base, added) for base, added in zip(bases, sums, strict=True)
        )
        put(self.module, self.last, adapted[0] if self.sets is None else adapted)


def _places(model: nn.Module) -> Iterator[tuple[str, _Place]]:
    """Yield each matrix that can be adapted, by its published name."""
    named: Iterator[tuple[str, nn.Module]] = cast(Any, model).named_modules()  # torch leaves its type open
    for name, module in named:
        published = name.removeprefix("depth.")
        if isinstance(module, StackedAttention):
            yield f"{published}.in_proj_weight", _Place(module, "in_proj_weight", module.sets)
            yield f"{published}.out_proj.weight", _Place(module.out_proj, "weight", module.sets)
        elif isinstance(module, Attention):
            yield f"{published}.in_proj_weight", _Place(module, "in_proj_weight")
            yield f"{published}.out_proj.weight", _Place(module.out_proj, "weight")
        elif isinstance(module, Projection) and not name.endswith(".out_proj"):
            yield f"{published}.weight", _Place(module, "weight")


def _parts(config: LanguageModelConfig, name: str, outputs: int, place: _Place | None) -> Sequence[NDArray[np.int64]]:
    """Return which of its ``outputs`` published rows a matrix has, in our order, by the weights that it is made of."""
    order = projection_rows(config, name)
    order = np.arange(outputs) if order is None else order
    return np.split(order, 1 if place is None else place.sets or 1)


def _check(adapters: Mapping[str, Adapter], known: set[str]) -> None:
    for name, adapter in adapters.items():
        for tensor, change in adapter.info.changes.items():
            if change.parts or tensor not in known:
                what = "replaces" if change.parts else "changes"
                raise UsageError(
                    f"the adapter '{name}' {what} '{tensor}', which a session cannot have of its own; load the model "
                    "with it for all sessions: adapter=..., or --adapter PATH without a name"
                )


def _low_rank_sum(
    opened: Sequence[AdapterTensors], name: str, part: NDArray[np.int64], rows: AdapterRows, like: Tensor
) -> LowRankSum | None:
    """Return what adapters add to some published rows of a matrix; ``None`` if none does."""
    factors = [tensors.factors(name, part, like) for tensors in opened]
    there = [each for each in factors if each is not None]
    if not there:
        return None
    rank = max(len(down) for down, _ in there)
    down = like.new_zeros((len(opened), rank, there[0][0].shape[1]))
    up = like.new_zeros((len(opened), len(part), rank))
    for adapter, own in enumerate(factors):
        if own is not None:
            down[adapter, : len(own[0])], up[adapter, :, : len(own[0])] = own
    return LowRankSum(down, up, rows)


def _fingerprint(adapter: Adapter) -> str:
    total = hashlib.sha256()
    for piece in adapter.fingerprint_chunks():
        total.update(piece)
    return total.hexdigest()
