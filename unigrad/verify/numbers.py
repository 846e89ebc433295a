"""Numbers written plainly, in any of the usual ways, as exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_NUMBER_CHARS = 64

_SPACED_GROUPS = re.compile(r"(?<![0-9.])([0-9]{1,3}(?: [0-9]{3})+)(?![0-9])")
DECIMAL_COMMA = re.compile(r"[+-]?0,[0-9]+")
_MIXED = re.compile(
    r"^([+-]?)([0-9]+) ?(?:([0-9]+) ?/ ?([0-9]+)|\\frac(?:\{([0-9]+)\}|([0-9]))(?:\{([0-9]+)\}|([0-9])))$"
)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?) ?(?:"
    r"(?P<decimal>(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?: ?/ ?(?P<denominator>-?[0-9]+)"
    r"|(?P<times>[eE]| ?(?:\\times|\\cdot|\*|x) ?10 ?\^) ?\{? ?(?P<exponent>[+-]?[0-9]{1,3}) ?\}?)?"
    r"|\\frac ?(?:\{ ?(?P<long_top>-?[0-9]+) ?\}|(?P<top>[0-9])) ?(?:\{ ?(?P<long_bottom>-?[0-9]+) ?\}"
    r"|(?P<bottom>[0-9]))"
    r"|10 ?\^ ?\{? ?(?P<power>[+-]?[0-9]{1,3}) ?\}?)"
)
_REPEATING = re.compile(r"([+-]?)([0-9]{1,9})\.([0-9]{0,9})\\overline ?\{ ?([0-9]{1,9}) ?\}")


def plain_number(text: str) -> Fraction | None:
    """The exact value of a number written plainly, in any of the usual ways; None of anything else."""
    if len(text) > MAX_NUMBER_CHARS:
        return None
    text = _SPACED_GROUPS.sub(lambda groups: groups[1].replace(" ", ""), mixed_number(text))
    if DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if repeating := _REPEATING.fullmatch(text):
        sign, *digits = repeating.groups()
        value = repeating_decimal(*digits)
        return -value if sign == "-" else value
    if mixed := re.fullmatch(r"([+-]?) ?([0-9]+)\\frac\{([0-9]+)\}\{([0-9]+)\}", text):
        if not int(mixed[4]):
            return None
        value = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return -value if mixed[1] == "-" else value
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    denominator = 1
    if match["power"]:
        value = Fraction(10) ** int(match["power"])
    elif match["decimal"]:
        if not any(map(str.isdigit, match["decimal"])):
            return None
        value = Fraction(match["decimal"].replace(",", "")) * Fraction(10) ** int(match["exponent"] or 0)
        denominator = int(match["denominator"] or 1)
    else:
        value = Fraction(match["long_top"] or match["top"])
        denominator = int(match["long_bottom"] or match["bottom"])
    if denominator == 0:
        return None
    return (-1 if match["sign"] == "-" else 1) * value / denominator


def repeating_decimal(whole: str, fixed: str, repeated: str) -> Fraction:
    r"""0.1\overline{6}, whose digits are "0", "1" and "6", is (16 - 1)/90."""
    top = int(whole + fixed + repeated) - int(whole + fixed)
    return Fraction(top, int("9" * len(repeated) + "0" * len(fixed)))


def mixed_number(text: str) -> str:
    match = _MIXED.match(text)
    if match is None:
        return text
    sign, whole, *parts = match.groups()
    top, bottom = (part for part in parts if part is not None)
    if " " not in text and r"\frac" not in text:  # 31/2
        return text
    return rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}"


def fraction_latex(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    top, bottom = abs(number.numerator), number.denominator
    return f"{sign}{top}" if bottom == 1 else rf"{sign}\frac{{{top}}}{{{bottom}}}"
