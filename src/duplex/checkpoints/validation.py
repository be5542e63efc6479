"""Reading configurations strictly: fields that check themselves, and sections that know all their keys."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs

from duplex.errors import ConfigError

__all__ = ["COUNTS", "Section", "count", "number", "only", "typed"]


def count(default: Any = attrs.NOTHING) -> Any:
    """Return a field for a positive integer."""
    return attrs.field(default=default, validator=[typed(int), attrs.validators.ge(1)])


def number(default: Any = attrs.NOTHING) -> Any:
    """Return a field for a positive number."""
    return attrs.field(
        default=default, validator=[typed((int, float)), attrs.validators.gt(0), attrs.validators.lt(math.inf)]
    )


def only(*values: Any) -> Any:
    """Return a field for which this package runs just these values; the first is the default."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value not in values:
            runs = ", ".join(repr(v) for v in values)
            raise ConfigError(f"'{attribute.name}' is {value!r}, which this version cannot run (it runs: {runs})")

    return attrs.field(default=values[0], validator=check)


def typed(kinds: type | tuple[type, ...]) -> Any:
    """Return a check that a value is a number of these types."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigError(f"'{attribute.name}' is {value!r}, but a number is wanted")

    return check


def _check_counts(value: Any, field: "attrs.Attribute[Any]") -> tuple[int, ...]:
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [None]  # pyright: ignore[reportUnknownArgumentType]
    if not all(type(item) is int and item >= 0 for item in items):
        raise ConfigError(f"'{field.name}' is {value!r}, but a list of whole numbers is wanted")
    return tuple(items)


COUNTS: Any = attrs.Converter(_check_counts, takes_field=True)
"""Converts a list of whole numbers to a tuple."""


@attrs.frozen(kw_only=True)
class Section:
    """A part of a configuration, read strictly."""

    IGNORED: ClassVar[frozenset[str]] = frozenset()
    """Keys that have no effect on what this package runs."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str) -> Self:
        """Read a section; ``where`` names the file or key it came from, for messages.

        :raises ConfigError: naming a key that is unknown, missing, or has a value that cannot be run
        """
        known = {field.name for field in attrs.fields(cls)}
        unknown = sorted(set(mapping) - known - cls.IGNORED)
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
