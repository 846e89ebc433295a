r"""The many ways of writing one answer, brought to a common one: Unicode, spacing, units, option labels.

Nothing here can raise or take long: callers cut every text to a bounded length, and no pattern's time explodes with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SYMBOLS = str.maketrans(
    {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}  # full-width forms
    | dict.fromkeys("\xa0\u2009\u202f\u3000", " ")
    | dict.fromkeys("€£¥", "")
    | {
        "−": "-", "–": "-", "—": "-", "⁄": "/", "÷": "/", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "±": r"\pm ",
        "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "′": "'", "°": r"^\circ ",
        "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
        "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_RADICAL = re.compile(r"√ ?([0-9]+|[a-zA-Z])?")

FONT = r"\\(?:text|textbf|textit|textrm|textsf|mbox|mathrm|mathbf|operatorname)\s*"
_POWER = r"(?:\^(?:[0-9]|\{-?[0-9]\}))?"
# A unit says no more than what is counted: "275 is wrong" and "3 or more" are other answers than 275 and 3.
_CLAUSE = r"\b(?:is|not|wrong|incorrect|false|or|and|if)\b"
# In text: cm, kg/m^3, erg s^{-1}, square units.
_TEXT_UNIT = rf"{FONT}\{{(?![^{{}}]*{_CLAUSE})(?:[A-Za-z^-][0-9]?|[ .,/]|\{{-?[0-9]\}})*\}}{_POWER}"
_TEXT_UNITS = rf"(?:{_TEXT_UNIT}|\\frac ?\{{ ?{_TEXT_UNIT} ?\}}\{{ ?{_TEXT_UNIT} ?\}})"

_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:[.,][0-9]+)*")
_Replacement = str | Callable[[re.Match[str]], str]
_REWRITES: list[tuple[re.Pattern[str], _Replacement]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\!\s*", ""),
        (r"(?<=[0-9])(?:\{,\}|,?\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", ","),  # 10{,}080 and 10\,080
        (r"\{:\}", ":"),
        (r"(?: |(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z]))+", " "),
        (r"(?<!\\)\\[()\[\]]|(?<!\\)\\?\$", ""),
        (r"\\(?:left|right|displaystyle)(?![a-zA-Z])", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\\\\[[0-9.]+[a-z]{2}\]", r"\\\\"),  # the space between two rows of a matrix
        (r"(?<!\\)\\%", "%"),
        (r"\^ ?(?:\\(?:circ|degree)(?![a-zA-Z])|\{ ?\\(?:circ|degree) ?\})|\\degree(?![a-zA-Z])", ""),
        # An upright or bold number, and the upright i and e, which are no units.
        (FONT + r"\{ ?(-?[0-9][0-9.,]*|[ie%]|) ?\}", r"\1"),
        # A number in text with its unit, and the words that announce it: "\text{45 eggs}", "\text{Total: }45".
        (rf"^{FONT}\{{ ?(-?[0-9][^{{}}]*)\}}$", r"\1"),
        (rf"^{FONT}\{{(?:[A-Za-z]+ )*(?:is|[A-Za-z]+ ?[:=]) ?\}} ?(?=.)", ""),
        (rf" ?(?:\\pmod ?\{{ ?[0-9]+ ?\}}|{FONT}\{{ ?\(mod [0-9]+\) ?\}})$", ""),
        # An option's letter in front of the answer itself: "(D) 48" where a number was asked for.
        (r"^(?:" + FONT + r"\{ ?\(?[A-E]\) ?\} ?|\([A-E]\) )(?=[^ ])", ""),
        # A unit at the end, in \text or in plain words.
        (r"(?<=[0-9})i]) ?" + _TEXT_UNITS + r"(?: ?(?:(?:/|\\cdot|\\times) ?)?" + _TEXT_UNITS + r")* ?\.?$", ""),
        (r"(?<=[0-9]) (?!.*" + _CLAUSE + r")(?:[cmk]m|kg|[a-z]{4,})(?: [a-z]+)*" + _POWER + r" ?\.?$", ""),
        (r"(?<=[0-9]) ?(?:\\times|[x*]) ?10 ?(?=\^)", r"\\times 10"),  # 6.4 x 10^-7
        (r"\\approx(?![a-zA-Z])", "="),
        (r"^=", ""),
        (r"^([0-9]{1,3}(?: [0-9]{3})+)$", lambda match: match[1].replace(" ", "")),  # 125 000
        (r"^(-?[0-9]+) ([0-9]+)/([0-9]+)$", r"\1\\frac{\2}{\3}"),  # 3 1/2
    )
]

_UNIT_NAMES = {
    spelling: unit
    for unit, spellings in {
        "mm": "mm millimeter millimeters millimetre millimetres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "m": "m meter meters metre metres",
        "km": "km kilometer kilometers kilometre kilometres",
        "inch": "in inch inches",
        "foot": "ft foot feet",
        "yard": "yd yard yards",
        "mile": "mi mile miles",
        "mg": "mg milligram milligrams",
        "g": "g gram grams",
        "kg": "kg kilogram kilograms",
        "second": "s sec second seconds",
        "minute": "min minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "year years",
        "cent": "cent cents",
        "dollar": "dollar dollars",
        "am": "am a.m",
        "pm": "pm p.m",
    }.items()
    for spelling in spellings.split()
}
_UNIT = re.compile(rf"(?:[0-9] ?|{FONT}\{{ ?)(?:(?:square|sq|cubic) )?(?P<name>[A-Za-z.]+) ?\}}?{_POWER}[. ]*$")
_UNIT_CHARS = 40
_WORD = re.compile(r"[A-Za-z$]")

_SYMBOL = (
    r"(?:[kMGTcmμµnpf]?(?:m|g|s|eV|Hz|J|W|Pa|N|V|A|K|L|T|C|F|mol|cal|bar|pc)|min|hr?|rad|deg|atm|AU|ly|yr"
    r"|erg|dyn|ft|in|lb|oz|mi|yd|mph|Å)"
)
_SYMBOLS_AT_END = re.compile(rf" {_SYMBOL}{_POWER}(?:[ /*]{_SYMBOL}{_POWER})*$")


def _repeating(match: re.Match[str]) -> str:
    r"""0.1\overline{6} as the fraction (16 - 1)/90, which math-verify does not read out of it."""
    whole, fixed, repeated = match.groups()
    numerator = int(whole + fixed + repeated) - int(whole + fixed)
    return rf"\frac{{{numerator}}}{{{'9' * len(repeated)}{'0' * len(fixed)}}}"


def _upwards(match: re.Match[str]) -> str:
    """7 > k > 1 as 1 < k < 7: math-verify reads only chains that grow."""
    first, left, middle, right, last = (part.strip() for part in match.groups())
    turned = {sign: "<" if sign in (">", r"\gt") else r"\le " for sign in (left, right)}
    return f"{last} {turned[right]} {middle} {turned[left]} {first}"


_GREATER = r"(>|\\gt(?![a-zA-Z])|\\geq?(?![a-zA-Z]))"
_SIDE = r"((?:(?!\\[gl][et])[^<>=,])+)"
_E_NOTATION = re.compile(r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)) ?[eE] ?(?P<exponent>[+-]?[0-9]{1,3})")
_FORMULA_REWRITES: list[tuple[re.Pattern[str], _Replacement]] = [
    (re.compile(r"(?<![0-9.])([0-9]{1,9})\.([0-9]{0,9})\\overline ?\{ ?([0-9]{1,9}) ?\}(?![0-9])"), _repeating),
    (re.compile(rf"^{_SIDE}{_GREATER}{_SIDE}{_GREATER}{_SIDE}$"), _upwards),
    (re.compile(r"'+"), lambda match: "^{" + r"\prime " * len(match[0]) + "}"),  # math-verify drops the quote marks
    (re.compile(r"\\log ?_ ?(?:e|\{ ?e ?\})(?![a-zA-Z])"), r"\\ln"),  # math-verify reads \log_e 5 as 5
    (re.compile(r"(?<![A-Za-z])([eE])(?= ?_)"), r"\\mathcal{\1}"),  # E_{1} is none of its symbols
]
_PLUS_MINUS, _MINUS_PLUS = re.compile(r"\\pm(?![a-zA-Z])"), re.compile(r"\\mp(?![a-zA-Z])")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def normalise(answer: str) -> str:
    r"""`answer` without what carries no meaning.

    That is spacing commands, `$`, \left and \right, degrees, a unit at the end, an option's letter in front of a value,
    and the full stop; Unicode's signs, digits and exponents become LaTeX's.
    """
    if _PLAIN_NUMBER.fullmatch(answer):
        return answer
    if not answer.isascii():
        answer = _SUPERSCRIPT.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", answer)
        answer = _RADICAL.sub(lambda root: rf"\sqrt{{{root[1]}}}" if root[1] else r"\sqrt", answer.translate(_SYMBOLS))
    normal = " ".join(answer.split())
    for pattern, replacement in _REWRITES:
        normal = pattern.sub(replacement, normal)
    return " ".join(normal.split()).rstrip(" .")


def units_clash(extracted: str, gold: str) -> bool:
    """Whether two answers, as they were written, end in different units, both of them known: 27 m and 27 cm."""
    if _WORD.search(gold) is None:
        return False
    gold_unit = _unit(gold)
    return gold_unit is not None and _unit(extracted) not in (None, gold_unit)


def without_symbols(answer: str) -> str:
    """A normalised answer without the unit symbols after its last blank: 5800 K, 3 m/s.

    Only for comparing with a plain number: elsewhere the m may be a variable.
    """
    return _SYMBOLS_AT_END.sub("", answer)


def as_latex(answer: str) -> str:
    """A normalised answer in what math-verify reads rightly: without help it takes 4e33 for 4·e + 33, and y' for y."""
    number = _E_NOTATION.fullmatch(answer)
    if number is not None:
        return rf"{number['number']} \times 10^{{{number['exponent']}}}"
    for pattern, replacement in _FORMULA_REWRITES:
        answer = pattern.sub(replacement, answer)
    if _PLUS_MINUS.search(answer) is None:
        return answer
    return ", ".join(both for item in _items(answer) for both in _both_signs(item))


def _unit(answer: str) -> str | None:
    """The unit at the end of an answer, if it is one that is known; of money, before it."""
    answer = answer.strip()
    if answer.startswith(r"\$") or (answer.startswith("$") and answer.count("$") == 1):
        return "dollar"
    match = _UNIT.search(" ".join(answer[-_UNIT_CHARS:].replace("~", " ").strip("$ ").split()))
    return _UNIT_NAMES.get(match["name"].lower().rstrip(".")) if match else None


def _items(answer: str) -> list[str]:
    """The items of a list, cut at the commas outside all brackets."""
    depth, start, items = 0, 0, []
    for position, character in enumerate(answer):
        depth += _BRACKETS.get(character, 0)
        if character == "," and depth == 0:
            items.append(answer[start:position])
            start = position + 1
    return [item.strip() for item in [*items, answer[start:]]]


def _both_signs(item: str) -> list[str]:
    r"""An item with \pm as two: math-verify reads no \pm within a fraction. Pairs and sets are left as they are."""
    if _PLUS_MINUS.search(item) is None or item.startswith(("(", "[", r"\{")):
        return [item]
    return [_MINUS_PLUS.sub(minus, _PLUS_MINUS.sub(plus, item)) for plus, minus in (("+", "-"), ("-", "+"))]
