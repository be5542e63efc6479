"""Word error rates of `codec_quality.py`: what counts as the same word, and how many words were heard wrongly.

Both what was said and what was heard are written in one way first: lower case, no punctuation, numbers in words,
American spelling, contractions in full. What is left that differs was heard differently.
"""

import re
from collections.abc import Sequence

import attrs
import jiwer
import numpy as np

__all__ = ["Errors", "count_errors", "normalized"]

RESAMPLINGS = 2000

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_REWRITTEN: tuple[tuple[str, str], ...] = (
    (r"\$(\d[\d,.]*)", r"\1 dollars"),
    (r"(?<=\d),(?=\d{3})", ""),
    (r"%", " percent "),
    (r"&", " and "),
    (r"\b(mr|mrs|dr)\.", r"\1"),
    (r"\bwon't\b", "will not"),
    (r"\bcan(?:'t|not)\b", "can not"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'ll\b", " will"),
    (r"'ve\b", " have"),
    (r"'m\b", " am"),
    (r"'", ""),
    (r"[^a-z0-9]", " "),
    (r"\b(arm|behavi|col|fav|flav|harb|hon|hum|lab|neighb|od|parl|rum|sav|vap)our", r"\1or"),
    (r"\b(cent|fib|lit|met|theat)re(s?)\b", r"\1er\2"),
    (r"\b(apolog|organ|real|recogn)is(e|ed|es|ing)\b", r"\1iz\2"),
    (r"\b(cancel|label|model|quarrel|signal|travel)l(ed|er|ers|ing)\b", r"\1\2"),
)
_ONE_SPELLING = {
    "alright": "all right", "cheque": "check", "cosy": "cozy", "goodnight": "good night", "gray": "grey",
    "kerb": "curb", "mister": "mr", "mum": "mom", "ok": "okay", "plough": "plow", "programme": "program",
    "pyjamas": "pajamas", "storey": "story", "tyre": "tire", "yoghurt": "yogurt",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class Errors:
    """Word errors of recordings: substitutions, deletions and insertions of each, and the words that were said."""

    errors: tuple[int, ...]
    words: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Errors in a hundred words."""
        return 100 * sum(self.errors) / max(1, sum(self.words))

    def above(self, other: "Errors") -> tuple[float, float, float]:
        """Return by how many points the rate is above another's on the same recordings, and its 95 % interval.

        The interval is a paired bootstrap over the recordings: which sentences are hard is common to both.
        """
        words = np.array(self.words)
        more = np.array(self.errors) - np.array(other.errors)
        chosen = np.random.default_rng(0).integers(len(words), size=(RESAMPLINGS, len(words)))
        points = 100 * more[chosen].sum(axis=1) / np.maximum(1, words[chosen].sum(axis=1))
        low, high = np.percentile(points, [2.5, 97.5])
        return self.rate - other.rate, float(low), float(high)


def count_errors(said: Sequence[str], heard: Sequence[str]) -> Errors:
    """Compare texts one by one."""
    errors: list[int] = []
    words: list[int] = []
    for reference, hypothesis in zip(said, heard, strict=True):
        wanted = normalized(reference)
        out = jiwer.process_words(wanted, normalized(hypothesis))
        errors.append(out.substitutions + out.deletions + out.insertions)
        words.append(len(wanted.split()))
    return Errors(errors=tuple(errors), words=tuple(words))


def normalized(text: str) -> str:
    """Return a text in the one way of writing.

    >>> normalized("The neighbour's 21 dogs weren't grey; it's the 3rd time!")
    'the neighbors twenty one dogs were not grey its the third time'
    """
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for pattern, replacement in _REWRITTEN:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda found: _ordinal(int(found[1])), text)
    text = re.sub(r"\d+", lambda found: f" {_cardinal(int(found[0]))} ", text)
    return " ".join(_ONE_SPELLING.get(word, word) for word in text.split())


def _cardinal(number: int) -> str:
    """Return a number in words; beyond thousands, digit by digit."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if size <= number < 1000 * size:
            rest = f" {_cardinal(number % size)}" if number % size else ""
            return f"{_cardinal(number // size)} {name}{rest}"
    return " ".join(_ONES[int(digit)] for digit in str(number))


def _ordinal(number: int) -> str:
    *others, last = _cardinal(number).split()
    ending = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*others, ending])
