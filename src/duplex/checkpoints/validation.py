"""Strict validation of configurations: attrs fields with validators, and classes that reject unknown keys."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs

from duplex.errors import ConfigError

__all__ = ["TO_INT_TUPLE", "StrictConfig", "positive_int", "positive_number", "strict_type", "supported"]


def positive_int(default: Any = attrs.NOTHING) -> Any:
    """Return a field for a positive integer."""
    return attrs.field(default=default, validator=[strict_type(int), attrs.validators.ge(1)])


def positive_number(default: Any = attrs.NOTHING) -> Any:
    """Return a field for a positive number."""
    return attrs.field(
        default=default, validator=[strict_type((int, float)), attrs.validators.gt(0), attrs.validators.lt(math.inf)]
    )


def supported(*values: Any) -> Any:
    """Return a field that accepts only the values this package supports; the first is the default."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value not in values:
            runs = ", ".join(repr(v) for v in values)
            raise ConfigError(f"'{attribute.name}' is {value!r}, which this version cannot run (it runs: {runs})")

    return attrs.field(default=values[0], validator=check)


def strict_type(kinds: type | tuple[type, ...]) -> Any:
    """Return an attrs validator for numbers of these types, without conversion: ``True`` and ``"64"`` are errors."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigError(f"'{attribute.name}' is {value!r}, but a number is wanted")

    return check


def _to_int_tuple(value: Any, field: "attrs.Attribute[Any]") -> tuple[int, ...]:
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [None]  # pyright: ignore[reportUnknownArgumentType]
    if not all(type(item) is int and item >= 0 for item in items):
        raise ConfigError(f"'{field.name}' is {value!r}, but a list of whole numbers is wanted")
    return tuple(items)


TO_INT_TUPLE: Any = attrs.Converter(_to_int_tuple, takes_field=True)
"""An attrs converter from a list of non-negative integers to a tuple."""


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
                f"{where}: unknown key '{unknown[0]}'; this version does not know this kind of model, a newer one may"
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
