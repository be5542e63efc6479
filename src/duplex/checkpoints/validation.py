"""Strict validation of configurations: attrs fields with validators, and classes that reject unknown keys."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import attrs

from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["StrictConfig", "in_range", "integers", "positive_int", "positive_number", "strict_type", "supported"]


LARGEST_INTEGER = 2**20
"""A hundred times what models have; products of a few such numbers still fit 64 bits."""
SMALLEST_NUMBER, LARGEST_NUMBER = 1e-9, 1e9


def positive_int(default: Any = attrs.NOTHING, *, most: int = LARGEST_INTEGER) -> Any:
    """Return a field for an integer from 1 to ``most``: no other one is computed with."""
    return attrs.field(default=default, validator=[strict_type(int), in_range(1, most)])


def positive_number(default: Any = attrs.NOTHING, *, most: float = LARGEST_NUMBER) -> Any:
    """Return a field for a positive number of at most ``most``."""
    return attrs.field(default=default, validator=[strict_type((int, float)), in_range(SMALLEST_NUMBER, most)])


def integers(default: tuple[int, ...], *, most: int = LARGEST_INTEGER, length: int = 1) -> Any:
    """Return a field for a tuple of at most ``length`` integers from 0 to ``most``, given as a list."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: tuple[int, ...]) -> None:
        if len(value) > length or max(value, default=0) > most:
            raise ConfigError(
                f"'{attribute.name}' is {shown(value)}, but at most {length} whole numbers up to {most} are wanted"
            )

    return attrs.field(default=default, converter=_TO_INT_TUPLE, validator=check)


def in_range(low: float, high: float) -> Any:
    """Return an attrs validator for numbers from ``low`` to ``high``."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
        if not low <= value <= high:
            raise ConfigError(f"'{attribute.name}' is {shown(value)}, but a number from {low:g} to {high:g} is wanted")

    return check


def supported(*values: Any) -> Any:
    """Return a field that accepts only the values this package supports; the first is the default."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if not any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values):
            runs = ", ".join(repr(v) for v in values)
            raise ConfigError(f"'{attribute.name}' is {shown(value)}, which this version cannot run (it runs: {runs})")

    return attrs.field(default=values[0], validator=check)


def strict_type(kinds: type | tuple[type, ...]) -> Any:
    """Return an attrs validator for numbers of these types, without conversion: ``True`` and ``"64"`` are errors."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigError(f"'{attribute.name}' is {shown(value)}, but a number is wanted")

    return check


def _to_int_tuple(value: Any, field: "attrs.Attribute[Any]") -> tuple[int, ...]:
    items: list[Any] = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else [None]
    if not all(type(item) is int and 0 <= item <= LARGEST_INTEGER for item in items):
        raise ConfigError(f"'{field.name}' is {shown(cast(object, value))}, but a list of whole numbers is wanted")
    return tuple(items)


_TO_INT_TUPLE: Any = attrs.Converter(_to_int_tuple, takes_field=True)
"""An attrs converter from a list of integers from 0 to ``LARGEST_INTEGER`` to a tuple."""


@attrs.frozen(kw_only=True)
class StrictConfig:
    """A configuration, or a nested part of one, in which unknown, missing and unsupported keys are errors."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset()
    """Keys that are accepted and dropped, because they have no effect on what this package runs."""

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], *, where: str) -> Self:
        """Validate ``mapping``; ``where`` names the file or key it comes from in messages.

        :raises ConfigError: naming a key that is unknown, missing, or has an invalid or unsupported value
        """
        known = {field.name for field in attrs.fields(cls)}
        unknown = sorted(set(mapping) - known - cls.IGNORED_KEYS)
        if unknown:
            raise ConfigError(
                f"{where}: unknown key '{unknown[0][:100]}'; "
                "this version does not know this kind of model, a newer one may"
            )
        try:
            return cls(**{key: value for key, value in mapping.items() if key in known})
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        except TypeError:
            required = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
            missing = sorted(set(required) - set(mapping))
            raise ConfigError(f"{where}: key '{missing[0]}' is missing") from None
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
