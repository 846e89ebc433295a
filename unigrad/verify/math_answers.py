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
from unigrad.verify.boxed import TAIL_CHARS, last_boxed

MAX_ANSWER_CHARS = 2_000
"""A longer answer is not read: no benchmark has one, and a parser of formulas takes very long over one."""
MAX_NUMBER_CHARS = 64

_FINAL_NUMBER = re.compile(
    r"(?<![\w.^])(?P<sign>[-−]?)\\?\$?(?P<number>"
    r"\\[dtc]?frac\{-?[0-9]+\}\{[0-9]+\}"
    r"|(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?"
    r"|\.[0-9]+)"
)

_TEXT = r"\\(?:text|textbf|textit|textrm|textsf|mbox|mathrm|mathbf|operatorname)\s*"
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\!\s*", ""),
        (r"(?<=[0-9])(?:\{,\}|,?\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", ","),  # 10{,}080 and 10\,080
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"(?<!\\)\\[()\[\]]|(?<!\\)\\?\$", ""),
        (r"\\(?:left|right|displaystyle)(?![a-zA-Z])", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"(?<!\\)\\%", "%"),
        (r"\^ ?(?:\\(?:circ|degree)(?![a-zA-Z])|\{ ?\\(?:circ|degree) ?\})|°|\\degree(?![a-zA-Z])", ""),
        # A unit at the end, in \text or in plain words.
        (r"(?<=[0-9}]) ?" + _TEXT + r"\{[A-Za-z .,/]*\}(?:\^(?:[0-9]|\{[0-9]\}))? ?\.?$", ""),
        (r"(?<=[0-9]) (?:[cmk]m|kg|[a-z]{4,})(?: [a-z]+)*(?:\^(?:[0-9]|\{[0-9]\}))? ?\.?$", ""),
    )
]
_WHOLLY_TEXT = re.compile(_TEXT + r"\{(?P<words>[^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{4,}(?:[ '-][^\W\d_]+)*")
_NUMBER = re.compile(
    r"(?P<variable>[a-zA-Z]=)?(?P<sign>[+-]?)(?:"
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
    of more than `MAX_ANSWER_CHARS`, is no answer.
    """
    boxed = last_boxed(completion)
    if boxed is not None:
        return boxed if boxed and len(boxed) <= MAX_ANSWER_CHARS else None
    numbers = deque(_FINAL_NUMBER.finditer(completion[-TAIL_CHARS:]), maxlen=1)
    if not numbers or len(numbers[0][0]) > MAX_ANSWER_CHARS:
        return None
    return str(numbers[0]["sign"] + numbers[0]["number"])


def normalise(answer: str) -> str:
    r"""`answer` without what carries no meaning.

    That is spacing commands, `$`, \left and \right, degrees, a unit at the end, and the full stop.
    """
    normal = " ".join(answer.replace("−", "-").split())
    for pattern, replacement in _REWRITES:
        normal = pattern.sub(replacement, normal)
    return " ".join(normal.split()).rstrip(" .")


def compare(extracted: str, gold: str) -> Reason | None:
    """The verdict on two normalised answers where it needs no algebra, else None.

    Two plain numbers are compared as exact fractions; p% equals both p and p/100, as in math-verify. A gold answer of
    words is compared as text, whatever its case.
    """
    extracted_text, gold_text = _text(extracted), _text(gold)
    if extracted_text == gold_text:
        return Reason.RIGHT
    if _WHOLLY_TEXT.fullmatch(gold) or _WORDS.fullmatch(gold):
        # math-verify reads a word as a product of its letters, equal to that of every anagram.
        return Reason.RIGHT if extracted_text.casefold() == gold_text.casefold() else Reason.WRONG
    extracted_number, gold_number = _number(extracted), _number(gold)
    if extracted_number is None or gold_number is None:
        return None
    return Reason.RIGHT if _equal(extracted_number, gold_number) else Reason.WRONG


def as_latex(answer: str) -> str:
    """A normalised answer as math-verify reads it: it takes 4e33 for 4·e + 33."""
    number = _NUMBER.fullmatch(_SPACE.sub("", answer)) if len(answer) <= MAX_NUMBER_CHARS else None
    if number is None or number["times"] not in ("e", "E"):
        return answer
    return rf"{number['sign']}{number['decimal']} \times 10^{{{number['exponent']}}}"


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
    wrapped = _WHOLLY_TEXT.fullmatch(answer)
    text = _SPACE.sub("", wrapped["words"] if wrapped else answer).rstrip(".")
    return text[1:-1] if len(text) == 3 and text[0] == "(" and text[2] == ")" else text


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
