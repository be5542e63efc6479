"""Text from outside: what is too large, too deep or no number is told before anything is computed with it."""

import json

import pytest

from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.parsing import parse_integer, parse_json, shown
from duplex.server.call_parameters import CallParameters


def kind_of(value):
    """A name for a case whose value is long, or cannot be printed at all."""
    return value[:9].encode("ascii", "replace").decode() if isinstance(value, str) else type(value).__name__


TOO_LARGE = [10**5000, -(10**400), float("inf"), float("nan"), "9" * 5000, [10**5000], True]
NO_NUMBERS = ["1e400", "-1e400", "Infinity", "-Infinity", "NaN", "9" * 5000, "1." + "0" * 5000, "9" * 21]


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "[" * 100_000, '{"a":' * 100_000, '"\\ud800"', "", "{", "1 2"], ids=kind_of
)
@pytest.mark.parametrize("kind", [str, str.encode])
def test_what_is_no_json_within_bounds(text, kind):
    with pytest.raises(ValueError, match=r"."):
        parse_json(kind(text))


def test_bytes_that_are_no_text():
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b'"\xed\xa0\x80"')


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63), 2**64 - 1, 1.5e300, -0.25, "\U0001f600 \u00e4", [{"a": None}], True]
)
def test_what_is_taken(value):
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value
    assert parse_json(json.dumps(value).encode("utf-16")) == value


def test_bytes_of_a_file_name_come_back():
    assert parse_json(json.dumps("a\udcff"), surrogates=True) == "a\udcff"


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "", "-1", "101", "1_0", " 1", "0x1", "\u0663", "1.0", None, 5, True], ids=kind_of
)
def test_what_is_no_integer_in_range(text):
    assert parse_integer("100", 0, 100) == 100
    with pytest.raises(ValueError, match="from 0 to 100"):
        parse_integer(text, 0, 100)


@pytest.mark.parametrize("value", [10**5000, "x" * 5000, [10**5000], {"a": ["b" * 300]}], ids=kind_of)
def test_anything_can_be_shown(value):
    assert len(shown(value)) <= 110


@pytest.mark.parametrize("field", ["temperature", "text_temperature", "top_k", "text_top_k", "seed"])
@pytest.mark.parametrize("value", TOO_LARGE, ids=kind_of)
def test_options_out_of_range(field, value):
    with pytest.raises(UsageError, match=rf"^{field} is ") as told:
        SessionOptions(**{field: value})
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("word", ["temperature", "audio_topk", "text_topk", "text_temperature", "top_k"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, "-1", "[]", "\ud800"], ids=kind_of)
def test_a_query_out_of_range(word, value):
    with pytest.raises(UsageError) as told:
        CallParameters.read({word: value})
    assert len(str(told.value)) < 200
