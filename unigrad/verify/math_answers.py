r"""Reads a math answer out of a completion, and settles what needs no algebra: plain numbers and equal texts.

Whatever `compare` leaves open (None) goes to math-verify in a worker process. Nothing here can raise or take long:
every text is cut to a bounded length before a pattern sees it, and no pattern's time explodes with its length.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from unigrad.types import Reason
from unigrad.verify.boxed import TAIL_CHARS, is_cut, last_boxed
from unigrad.verify.notation import FONT, without_symbols

MAX_ANSWER_CHARS = 2_000
"""A longer answer is not read: no benchmark has one, and a parser of formulas takes very long over one."""
MAX_NUMBER_CHARS = 64

_FINAL_NUMBER = re.compile(
    r"(?<![\w.^])(?P<sign>[-−]?)\\?\$?(?P<number>"
    r"\\[dtc]?frac\{-?[0-9]+\}\{[0-9]+\}"
    r"|(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?"
    r"|\.[0-9]+)"
)

_WHOLLY_TEXT = re.compile(FONT + r"\{(?P<words>[^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{4,}(?:[ '-][^\W\d_]+)*")
_ARTICLE = re.compile(r"^(?:an?|the) ")
_BASED = re.compile(r"(?P<digits>[0-9A-Za-z]+)_(?:\{ ?)?(?P<base>[0-9]+)(?: ?\})?")
_PARTS = re.compile(r"[0-9]+(?::[0-9]+)+")
_PAIR = re.compile(r"(?P<open>[(\[])[^()\[\]]*,[^()\[\]]*(?P<close>[)\]])")
_NUMBER = re.compile(
    r"(?P<variable>\\?[a-zA-Z]+(?:_(?:\w|\{\w+\}))?=)?(?P<sign>[+-]?)(?:"
    r"(?P<decimal>(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:/(?P<denominator>[0-9]+)|(?P<times>[eE]|(?:\\times|\\cdot|\*)10\^)\{?(?P<exponent>[+-]?[0-9]{1,3})\}?)?"
    r"|\\frac(?:\{(?P<long_top>-?[0-9]+)\}|(?P<top>[0-9]))(?:\{(?P<long_bottom>[0-9]+)\}|(?P<bottom>[0-9]))"
    r"|10\^\{?(?P<power>[+-]?[0-9]{1,3})\}?"
    r")(?P<percent>%?)"
)
# A space between two digits separates them; any other carries no meaning.
_SPACE = re.compile(r" (?![0-9])|(?<![0-9]) ")


@dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    variable: str | None
    """The `x=` in front of it."""
    percent: bool


def extract(completion: str) -> str | None:
    r"""What `completion` gives as its answer: the last complete box, else the final number in the text, else None.

    The fallback reads plain numbers, with sign, thousands commas, decimals and a/b or \frac{a}{b}. An empty box, or one
    of more than `MAX_ANSWER_CHARS`, is no answer; nor is a text whose only box was never closed.
    """
    boxed = last_boxed(completion)
    if boxed is not None:
        return boxed if boxed and len(boxed) <= MAX_ANSWER_CHARS else None
    if is_cut(completion):
        return None
    numbers = deque(_FINAL_NUMBER.finditer(completion[-TAIL_CHARS:]), maxlen=1)
    if not numbers or len(numbers[0][0]) > MAX_ANSWER_CHARS:
        return None
    return str(numbers[0]["sign"] + numbers[0]["number"])


def compare(extracted: str, gold: str) -> Reason | None:
    """The verdict on two normalised answers where it needs no algebra, else None.

    Two plain numbers are compared as exact fractions; p% equals both p and p/100, as in math-verify. A gold answer of
    words is compared as text, whatever its case and article; one with a base, or a time, digit by digit.
    """
    extracted_text, gold_text = _text(extracted), _text(gold)
    if extracted_text == gold_text:
        return Reason.RIGHT
    if _WHOLLY_TEXT.fullmatch(gold) or _WORDS.fullmatch(gold):
        # math-verify reads a word as a product of its letters, equal to that of every anagram.
        return _right(_bare(extracted) == _bare(gold))
    gold_number = _number(gold)
    extracted_number = _number(extracted) or (gold_number and _number(without_symbols(extracted)))
    if extracted_number is not None and gold_number is not None:
        return _right(_equal(extracted_number, gold_number))
    return _compare_marks(extracted_text, gold_text)


def _compare_marks(extracted: str, gold: str) -> Reason | None:
    """The verdict where it hangs on marks that math-verify passes over, else None."""
    gold_based = _BASED.fullmatch(gold)
    if gold_based and gold_based["digits"].isdecimal():  # it leaves out the base
        based = _BASED.fullmatch(extracted)
        return _right(based is not None and based.groups() == gold_based.groups())
    gold_parts, parts = _PARTS.fullmatch(gold), _PARTS.fullmatch(extracted)
    if parts and (gold_parts or extracted.count(":") > 1):  # it divides: 8:30 would be 4:15
        return _right(gold_parts is not None and extracted.split(":") == gold.split(":"))
    gold_pair, pair = _PAIR.fullmatch(gold), _PAIR.fullmatch(extracted)
    if gold_pair and pair and pair.groups() != gold_pair.groups():  # it reads [4,-7], which is no interval, as (4,-7)
        return Reason.WRONG
    return None


def _right(right: bool) -> Reason:
    return Reason.RIGHT if right else Reason.WRONG


def _equal(extracted: _Number, gold: _Number) -> bool:
    if extracted.variable and gold.variable and extracted.variable != gold.variable:
        return False
    if extracted.value == gold.value:
        return True
    if extracted.percent == gold.percent:
        return False
    percentage, plain = (extracted, gold) if extracted.percent else (gold, extracted)
    return percentage.value == 100 * plain.value


def _text(answer: str) -> str:
    text = _SPACE.sub("", _unwrapped(answer)).rstrip(".")
    return text[1:-1] if len(text) == 3 and text[0] == "(" and text[2] == ")" else text


def _bare(answer: str) -> str:
    """An answer of words, without its case and its article."""
    return _text(_ARTICLE.sub("", _unwrapped(answer).strip(" .").casefold()))


def _unwrapped(answer: str) -> str:
    wrapped = _WHOLLY_TEXT.fullmatch(answer)
    return wrapped["words"] if wrapped else answer


def _number(answer: str) -> _Number | None:
    if len(answer) > MAX_NUMBER_CHARS or ", " in answer:  # with a space, the comma is a list's
        return None
    match = _NUMBER.fullmatch(_SPACE.sub("", answer))
    if match is None:
        return None
    denominator = 1
    if match["power"]:
        value = Fraction(10) ** int(match["power"])
    elif match["decimal"]:
        value = Fraction(match["decimal"].replace(",", "")) * Fraction(10) ** int(match["exponent"] or 0)
        denominator = int(match["denominator"] or 1)
    else:
        value = Fraction(match["long_top"] or match["top"])
        denominator = int(match["long_bottom"] or match["bottom"])
    if denominator == 0:
        return None
    sign = -1 if match["sign"] == "-" else 1
    return _Number(sign * value / denominator, match["variable"], bool(match["percent"]))
