"""What a language model can be conditioned on, as ``conditioners`` and ``fuser`` of ``config.json`` say.

A condition is a word of a table (``lut``) or a sequence of vectors (``tensor``). The fuser adds it to every step's
input (``sum``) or lets the temporal layers attend to it (``cross``).
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import attrs

from duplex.checkpoints.validation import StrictConfig, positive_int, positive_number, supported
from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["ConditionerConfig", "FuserConfig", "read_conditioners", "read_fuser"]

MAX_CONDITIONERS = 64
MAX_WORDS = 4096


def _names(value: Any, field: "attrs.Attribute[Any]") -> tuple[str, ...]:
    items = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else [None]
    if len(items) > MAX_WORDS or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"'{field.name}' is {shown(cast(object, value))}, but a list of names is wanted")
    return tuple(map(str, items))


_NAMES: Any = attrs.Converter(_names, takes_field=True)


@attrs.frozen(kw_only=True)
class _LutConfig(StrictConfig):
    n_bins: int = positive_int(most=2**16)
    dim: int = positive_int()
    tokenizer: str = supported("noop")
    possible_values: tuple[str, ...] = attrs.field(converter=_NAMES)


@attrs.frozen(kw_only=True)
class _TensorConfig(StrictConfig):
    dim: int = positive_int()


@attrs.frozen(kw_only=True)
class ConditionerConfig:
    """One condition: ``dim`` is the width of a table's row, or of each vector of a sequence.

    Of a table ``values`` are the words that it knows, in the order of its rows; row ``bins`` stands for none.
    """

    kind: Literal["lut", "tensor"]
    dim: int
    bins: int = 0
    values: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, mapping: Any, *, where: str) -> "ConditionerConfig":
        """Validate one entry of ``conditioners``.

        :raises ConfigError: naming the key that is invalid or unsupported
        """
        given = _object(mapping, where)
        kind = given.get("type")
        if kind not in ("lut", "tensor") or set(given) != {"type", kind}:
            raise ConfigError(f"{where}: keys are {shown(sorted(given))}; 'type' and one of 'lut' and 'tensor' are run")
        if kind == "tensor":
            return cls(kind="tensor", dim=_TensorConfig.from_dict(_object(given[kind], where), where=where).dim)
        table = _LutConfig.from_dict(_object(given[kind], where), where=where)
        if len(table.possible_values) > table.n_bins:
            raise ConfigError(f"{where}: 'possible_values' has more words than 'n_bins' says")
        return cls(kind="lut", dim=table.dim, bins=table.n_bins, values=table.possible_values)


@attrs.frozen(kw_only=True)
class FuserConfig(StrictConfig):
    """How conditions enter the temporal transformer; ``sum`` and ``cross`` name conditioners."""

    cross_attention_pos_emb: bool = supported(False, True)
    cross_attention_pos_emb_scale: float = positive_number(1)
    sum: tuple[str, ...] = attrs.field(default=(), converter=_NAMES)
    cross: tuple[str, ...] = attrs.field(default=(), converter=_NAMES)
    prepend: list[str] = supported([])  # noqa: RUF009 -- a field, not a shared value


def read_conditioners(mapping: Any, *, where: str) -> dict[str, ConditionerConfig]:
    """Validate ``conditioners``; ``None`` and an empty object are none.

    :raises ConfigError: naming the key that is invalid or unsupported
    """
    given = {} if mapping is None else _object(mapping, f"{where}: 'conditioners'")
    if len(given) > MAX_CONDITIONERS:
        raise ConfigError(f"{where}: 'conditioners' has {len(given)} entries; at most {MAX_CONDITIONERS} are run")
    return {
        name: ConditionerConfig.from_dict(part, where=f"{where}: conditioners: {shown(name)}")
        for name, part in given.items()
    }


def read_fuser(mapping: Any, conditioners: Mapping[str, ConditionerConfig], *, where: str) -> FuserConfig:
    """Validate ``fuser``; ``None`` and an empty object fuse nothing.

    :raises ConfigError: naming the key that is invalid or unsupported, or the conditioner that is missing
    """
    fuser = FuserConfig.from_dict({} if mapping is None else _object(mapping, f"{where}: 'fuser'"), where=where)
    fused = (*fuser.sum, *fuser.cross)
    for name in fused:
        if name not in conditioners:
            raise ConfigError(f"{where}: 'fuser' names {shown(name)}, which 'conditioners' does not have")
    unused = sorted(set(conditioners) - set(fused))
    if unused:
        raise ConfigError(f"{where}: 'conditioners' has {shown(unused[0])}, which 'fuser' does not use")
    if any(conditioners[name].kind == "tensor" for name in fuser.sum):
        raise ConfigError(f"{where}: 'fuser' adds a sequence of vectors to a step; 'sum' is run for 'lut' alone")
    return fuser


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {shown(value)} is given, but an object is wanted")
    return cast("dict[str, Any]", value)
