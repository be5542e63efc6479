"""Text from outside, parsed within bounds: no number is computed with before its size is known.

What is refused raises ``ValueError``, for the caller to tell as an error of its own. Python's own parsers take integers
of any length, ``NaN``, ``Infinity``, floats such as ``1e400`` that become infinite, and lone surrogates, which cannot
be printed; and they raise ``RecursionError`` where brackets are nested deeply.
"""

import json
import math
import re
from typing import Any

__all__ = ["LONGEST_NUMBER", "parse_integer", "parse_json", "plain", "shown"]

DIGITS = 20
"""Digits of the longest integer: enough for 64 bits."""
LONGEST_NUMBER = 64
"""Characters of the longest number."""
LONGEST_SHOWN = 100
"""Characters of a value in a message."""

_INTEGER = re.compile(rf"-?[0-9]{{1,{DIGITS}}}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: bytes | bytearray | memoryview | str, *, surrogates: bool = False) -> Any:
    """Return the value of a JSON text, with numbers that fit 64 bits.

    Lone ``surrogates`` are let pass in our own files: they stand for bytes of a file's name that are no text.

    :raises ValueError: if it is not valid JSON, or has a number or a string that is out of bounds
    """
    if not isinstance(text, str):
        data = bytes(text)
        text = data.decode(json.detect_encoding(data))  # strictly, unlike json.loads
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not surrogates and _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def parse_integer(text: object, low: int, high: int) -> int:
    """Return the integer from ``low`` to ``high`` that a string is, in decimal digits.

    :raises ValueError: if it is something else
    """
    value = int(text) if isinstance(text, str) and _INTEGER.fullmatch(text) else None
    if value is None or not low <= value <= high:
        raise ValueError(f"{shown(text)} is no whole number from {low} to {high}")
    return value


def shown(value: object) -> str:
    """Return a value for a message: its ``repr``, shortened, or its type if it is too large for one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        return f"of type {type(value).__name__}, and too large to be shown"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _integer(digits: str) -> int:
    if not _INTEGER.fullmatch(digits):
        raise ValueError(f"a number of {len(digits)} digits is out of range")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits) if len(digits) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:DIGITS]} is out of range")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def plain(text: str) -> str:
    """Replace what could move the cursor or change a terminal's settings."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
