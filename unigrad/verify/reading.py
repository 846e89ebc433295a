r"""What an answer is: a value, a list, a pair or interval, a relation, an equation, words. Read from its text alone.

The items of what is read are LaTeX still: `comparing` says which are equal, and asks algebra only where it must.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from fractions import Fraction

from unigrad.verify.nodes import (
    Based,
    Braced,
    Bracketed,
    Clock,
    Empty,
    Equation,
    Node,
    Reals,
    Region,
    Relation,
    Several,
    Unread,
    Value,
    Words,
    without_name,
)
from unigrad.verify.notation import spell
from unigrad.verify.numbers import DECIMAL_COMMA, MAX_NUMBER_CHARS, fraction_latex, plain_number
from unigrad.verify.splitting import PROSE, closes_at_end, split, without_outer
from unigrad.verify.values import MODULUS, both_signs, modulo, read_value
from unigrad.verify.words import after_number, before_number, numeral

MAX_ITEMS = 200
MAX_DEPTH = 12
_REVERSED_BRACKETS = re.compile(r"(?=\]|.*\[$)([\[\]])([^\[\]]*)([\[\]])")
_RELATION = re.compile(r"<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])")
_EQUAL = re.compile(r":?=|\\equiv(?![a-zA-Z])|\\approx(?![a-zA-Z])")
_SEPARATOR = re.compile(r"[,;]|\\text\{and\}")
_UNION = re.compile(r"\\cup(?![a-zA-Z])")
_INTERSECTION = re.compile(r"\\cap(?![a-zA-Z])")
_DIFFERENCE = re.compile(r"\\setminus(?![a-zA-Z])|(?<=\\mathbb\{R\}) ?-(?= ?\\\{)")
_MEMBER = re.compile(r"\\in(?![a-zA-Z])")
_CONNECTIVE = re.compile(
    r"⟨(?P<before>[^⟨⟩]*?)(?<![^ ⟨])(?P<word>and/or|and|or|或者|或|和|与|及|且)(?![^ ⟩])(?P<after>[^⟨⟩]*)⟩", re.I
)
_AND, _OR = "\\text{and}", "\\text{or}"
_BASE = re.compile(
    r"\(?(?P<digits>[0-9A-Za-z]+)\)? ?(?:_ ?(?:(?P<plain>[0-9]+)|\{ ?\(?(?P<braced>[0-9]+)\)? ?\}"
    r"|\{ ?⟨base⟩ ?(?P<spelled>[0-9]+) ?\}|\{? ?⟨?(?P<word>[a-z]{3,})⟩? ?\}?)"
    r"|\(? ?⟨(?:in )?base⟩ ?(?:(?P<said>[0-9]+)|⟨(?P<saidword>[a-z]+)⟩) ?\)?"
    r"|\(? ?⟨(?:in )?base (?P<words>[a-z]+)⟩ ?\)?)"
)
_CLOCK = re.compile(r"(?P<parts>[0-9]+(?: ?: ?[0-9]+)+)(?: ?⟨(?P<half>[aApP]\.? ?[mM])\.?⟩)?")
_HALF = {"a": "am", "p": "pm"}
_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_EUROPEAN = re.compile(r"(?P<whole>[+-]?[0-9]{1,3}(?:(?: [0-9]{3})+|(?:\.[0-9]{3})+)),(?P<part>[0-9]+)")
_MAYBE_DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)")
_NAME = re.compile(
    r"(?:⟨[^⟨⟩]*⟩ ?|[A-Za-z]|\\(?:angle|triangle|overline|vec|cos|sin|tan|theta|alpha|beta|gamma|phi|omega|Delta"
    r"|lambda|mu|sigma|rho|pi|log|ln|max|min|lim|lvert|rvert|mid|measuredangle|mathrm|mathbf|mathcal|det|arg|deg|dim"
    r"|operatorname|ell|hat|bar|widehat|frac|partial|varphi|tau|epsilon|delta|eta|kappa|nu|psi|xi|zeta|chi|Gamma|Omega"
    r"|Theta|Phi|Psi|nabla|mathbb|cdot)(?![a-zA-Z])|_(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|[A-Za-z0-9])|\^(?:\{-1\}"
    r"|\{\\prime+\}|\\prime)|\([^()]*(?:\([^()]*\)[^()]*)*\)|'|\||[ {}:])+"
)
_REAL_SET = re.compile(r"\\(?:mathbb|mathbf|Bbb) ?\{? ?R ?\}?|\\R|\\(?:mathbb|mathbf) R|R")
_ALL_REALS = frozenset(
    {"all real numbers", "all reals", "all real number", "any real number", "all real values", "全体实数"}
)
_NO_SOLUTION = frozenset(
    {
        "no solution",
        "no solutions",
        "no real solution",
        "no real solutions",
        "empty set",
        "the empty set",
        "无解",
        "空集",
    }
)
_ARTICLE = re.compile(r"^(?:an?|the) (?=.)", re.I)


@functools.lru_cache(maxsize=1024)
def read(answer: str) -> Node | None:
    """What `answer` is; None where it is empty."""
    text = spell(answer)
    return _read(text, 0) if text else None


def read_otherwise(answer: str, gold: Node) -> Node | None:
    """The other meaning of a comma between digits, where `gold` shows that it may be meant; None where there is none.

    For a gold list, 100,200 is two numbers; for a gold decimal, 3,5 is one.
    """
    text = spell(answer)
    if isinstance(gold, Several | Bracketed | Braced) and "," in text:
        items = [item.strip() for item in text.split(",")]
        return Several(tuple(_read(item, 1) for item in items)) if all(map(str.isdigit, items)) else None
    if isinstance(gold, Value) and gold.number is not None:
        decimal = _MAYBE_DECIMAL_COMMA.fullmatch(text)
        if decimal and gold.number.denominator > 1:
            return read_value(f"{decimal[1]}.{decimal[2]}")
    return None


def _read(text: str, depth: int) -> Node:
    text = text.strip()
    if depth > MAX_DEPTH or not text:
        return Unread(text)
    text = without_outer(text)
    if reversed_brackets := _REVERSED_BRACKETS.fullmatch(text):  # ]2, 3]
        opening, inner, closing = reversed_brackets.groups()
        text = f"{'(' if opening == ']' else '['}{inner}{')' if closing == '[' else ']'}"
    return (
        _whole_words(text)
        or _simple(text, depth)
        or _regions(text, depth)
        or _several(text, depth)
        or _enclosed(text, depth)
        or _relation(text)
        or _equation(text, depth)
        or read_value(text)
    )


def _whole_words(text: str) -> Node | None:
    match = PROSE.fullmatch(text)
    if match is None:
        return None
    words = match[1].strip(" .,")
    if len(words) == 1 and words.isascii():
        return Value(words)
    lowered = _ARTICLE.sub("", words.lower())
    if lowered in _NO_SOLUTION:
        return Empty()
    if lowered in _ALL_REALS:
        return Reals()
    if lowered == "infinity":
        return Value(r"\infty")
    sign = -1 if re.match("(?:minus|negative) ", lowered) else 1
    tokens = lowered.split()[1 if sign < 0 else 0 :]
    for end in range(len(tokens), 0, -1):  # "twenty-four", and with what is counted: "twenty-four students"
        number = numeral(" ".join(tokens[:end]))
        said = after_number(" ".join(tokens[end:])) if number is not None else None
        if number is not None and said is not None and said.factor == 1:
            return Value(fraction_latex(sign * number), sign * number, said.percent, said.unit)
    if _CONNECTIVE.search(text) and not re.search(r"\b(?:not|neither|either|both)\b", lowered):
        return None
    return Words(lowered)


def _simple(text: str, depth: int) -> Node | None:
    """What is recognised whole, before any comma or sign within it is looked at."""
    if text in (r"\emptyset", r"\{ \}", r"\{\}"):
        return Empty()
    if _REAL_SET.fullmatch(text) and text != "R":
        return Reals()
    if clock := _CLOCK.fullmatch(text):
        half = clock["half"]
        return Clock(tuple(int(part) for part in clock["parts"].split(":")), half and _HALF[half[0].lower()])
    if (based := _BASE.fullmatch(text)) and (node := _based(based)):
        return node
    if european := _EUROPEAN.fullmatch(text):  # 12 500,75 and 12.500,75
        return read_value(re.sub(r"[ .]", "", european["whole"]) + "." + european["part"])
    if ratio := re.fullmatch(r"([0-9]+) ?⟨to⟩ ?([0-9]+)", text):
        return Clock((int(ratio[1]), int(ratio[2])))
    if point := re.fullmatch(r"[A-Z](?:_\{?[0-9]\}?|')? ?(\( ?[-+]?[0-9.]+ ?[,;].*\))", text):  # A(2, -3)
        return _read(point[1], depth + 1)
    label = PROSE.match(text)
    if label and re.match(r" ?:? ?[(\[]|\\\{", text[label.end() :]) and before_number(label[1]) == (1, None):
        return _read(text[label.end() :].lstrip(" :"), depth + 1)  # Point (1, 2)
    if len(text) <= MAX_NUMBER_CHARS and (_GROUPS.fullmatch(text) or DECIMAL_COMMA.fullmatch(text)):
        return read_value(text)
    return None


def _based(match: re.Match[str]) -> Based | None:
    names = match["word"] or match["saidword"] or match["words"]
    base = {"binary": Fraction(2), "octal": Fraction(8), "hex": Fraction(16), "decimal": Fraction(10)}.get(names or "")
    said = match["plain"] or match["braced"] or match["said"] or match["spelled"]
    number = base or (numeral(names) if names else Fraction(said) if said else None)
    if number is None or not 2 <= number <= 36:
        return None
    digits = match["digits"]
    if not (digits.isdecimal() or (number > 10 and any(digit.isdigit() for digit in digits))):
        return None
    return Based(digits.upper().lstrip("0") or "0", int(number))


def _regions(text: str, depth: int) -> Node | None:
    for pattern, operation in ((_UNION, "union"), (_INTERSECTION, "intersection"), (_DIFFERENCE, "difference")):
        parts = split(text, pattern)[0]
        if len(parts) > 1:
            if member := split(parts[0], _MEMBER)[0][1:]:
                parts[0] = member[-1]
            nodes = tuple(_read(part, depth + 1) for part in parts)
            return Region(operation, nodes)
    sides = split(text, _MEMBER)[0]
    if len(sides) == 2:
        if not sides[0] or split(sides[0], _RELATION)[1]:
            return None
        if re.fullmatch(r"\\mathbb ?\{?[ZNQC]\}?(?:\^?[+*])?", sides[1].strip()):
            return Unread(text)
        return _read(sides[1], depth + 1)
    except_match = re.fullmatch(
        r"⟨(?:all real numbers|all reals|all real [a-z]+|any real number)(?: [a-z])? (?:except|but|other than"
        r"|not equal to)(?: for)?(?: x)?⟩ ?(?:x ?= ?|x ?\\ne ?)?(.+)",
        text,
    )
    if except_match:
        return Region("difference", (Reals(), Braced((_read(except_match[1], depth + 1),))))
    return None


def _several(text: str, depth: int) -> Node | None:
    text = _connectives(text)
    conjoined = _AND in text and _OR not in text
    rows = [row.strip() for row in split(text, re.compile(";"))[0]]
    # p=5, q=2; p=7, q=2
    if 1 < len(rows) <= MAX_ITEMS and all(len(split(row, re.compile(","))[0]) > 1 for row in rows):
        return Several(tuple(Bracketed(_read_items(row, depth), "(", ")") for row in rows))
    parts, signs = split(text.replace(_OR, _AND), _SEPARATOR)
    parts = [part.strip() for part in parts if part.strip()]
    if len(parts) < 2:
        if signs and len(parts) == 1 and _AND not in text:
            return _read(parts[0], depth + 1)
        return None
    if len(parts) > MAX_ITEMS:
        return Unread(text)
    parts = _grouped(parts, text)
    if len(parts) == 1:
        return None
    items = tuple(_read(part, depth + 1) for part in parts)
    first = items[0]
    if isinstance(first, Relation) and first.signs == (r"\ne",):
        values = [item for item in items[1:] if isinstance(item, Value)]
        if len(values) == len(items) - 1:  # x ≠ 1, 2
            return Region("intersection", (first, *(replace(first, sides=(first.sides[0], v.latex)) for v in values)))
    if all(isinstance(item, Relation) for item in items):
        return Region("intersection" if conjoined else "union" if _OR in text else "listed", items)
    units = {item.unit for item in items if isinstance(item, Value)} - {None}
    if len(units) > 1:  # 24 minutes and 30 seconds
        return Unread(text)
    return Several(_expanded(items))


def _read_items(row: str, depth: int) -> tuple[Node, ...]:
    return tuple(without_name(_read(item.strip(), depth + 1)) for item in split(row, re.compile(","))[0])


def _expanded(items: tuple[Node, ...]) -> tuple[Node, ...]:
    r"""±3 within a list is two of its items; a name in front of the first is that of all."""
    flat: list[Node] = []
    for item in items:
        value = without_name(item)
        if isinstance(value, Several):
            flat += value.items
        else:
            flat.append(item)
    return tuple(flat)


def _grouped(parts: list[str], text: str) -> list[str]:
    """Joins again what a thousands comma parted: `12,345 and 6` has two items. A space after the comma parts."""
    joined = [parts[0]]
    for part in parts[1:]:
        if (
            re.search(rf"{re.escape(joined[-1][-3:])},{re.escape(part[:3])}", text)
            and re.search(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})*$", joined[-1])
            and re.match(r"[0-9]{3}(?![0-9])", part)
            and re.fullmatch(r"[0-9, ]+", text) is None
        ):
            joined[-1] += "," + part
        else:
            joined.append(part)
    return joined


def _connectives(text: str) -> str:
    """`and` and `or` among words, as separators."""
    if "⟨" not in text:
        return text

    def apart(match: re.Match[str]) -> str:
        before, after = match["before"].strip(" ,"), match["after"].strip(" ,")
        sign = _AND if match["word"].lower() in ("and", "和", "与", "及", "且") else _OR
        return (f"⟨{before}⟩" if before else "") + sign + (f"⟨{after}⟩" if after else "")

    for _ in range(8):
        parted = _CONNECTIVE.sub(apart, text)
        if parted == text:
            return text
        text = parted
    return text


def _enclosed(text: str, depth: int) -> Node | None:
    if text.startswith(r"\{") and text.endswith(r"\}") and closes_at_end(text[1:-2] + "}"):
        inner = text[2:-2].strip()
        if re.fullmatch("[0-9, ]+", inner) and "," in inner:
            return Braced(tuple(read_value(item.strip()) for item in inner.split(",") if item.strip()))
        parts = split(inner, re.compile(r":(?!=)|\\mid(?![a-zA-Z])|(?<!\\)\|"))[0]
        if len(parts) == 2 and (_RELATION.search(parts[1]) or _MEMBER.search(parts[1])):
            if re.search(r"\\mathbb ?\{?[ZNQC]", inner):
                return Unread(text)
            return _read(parts[1], depth + 1)
        items = _read(inner, depth + 1)
        return Braced(items.items if isinstance(items, Several) else (items,))
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and closes_at_end(text):
        opening, closing = text[0], text[-1]
        parts = [part.strip() for part in split(text[1:-1], re.compile("[,;]"))[0]]
        if len(parts) == 1 or not all(parts):
            return None
        if len(parts) > MAX_ITEMS:
            return Unread(text)
        choices = [both_signs(part) for part in parts]
        if sum(len(choice) == 2 for choice in choices) > 1:
            return Unread(text)
        both = [
            Bracketed(
                tuple(_read(choice[min(sign, len(choice) - 1)], depth + 1) for choice in choices), opening, closing
            )
            for sign in range(max(map(len, choices)))
        ]
        return both[0] if len(both) == 1 else Several(tuple(both))
    return None


def _relation(text: str) -> Node | None:
    sides, signs = split(text, _RELATION)
    if not signs:
        return None
    if "⟨" in text:
        sides = [_stripped_side(side) for side in sides]
    if any("⟨" in side or _EQUAL.search(side) for side in sides) or not all(side.strip() for side in sides):
        return Unread(text)
    return Relation(tuple(side.strip() for side in sides), tuple(sign.strip() for sign in signs))


def _stripped_side(side: str) -> str:
    node = read_value(side.strip()) if side.strip() else None
    return node.latex if isinstance(node, Value) else side


def _equation(text: str, depth: int) -> Node | None:
    modulus = MODULUS.search(text)
    body = text[: modulus.start()] if modulus else text
    sides, signs = split(body, _EQUAL)
    sides = [side.strip() for side in sides]
    if not signs:
        return None
    if not sides[0]:  # "= 5", "≈ 24"
        sides, signs = sides[1:], signs[1:]
    if not all(sides) or not sides:
        return Unread(text)
    approximate = [index for index, sign in enumerate(signs) if "approx" in sign]
    name = sides[0] if len(sides) > 1 and _is_name(sides[0]) else None
    if approximate and (approximate[0] > 0 or name is None):
        rest = sides[approximate[0] + 1 :]
        sides = sides[: approximate[0] + 1]
        if not all(_near(sides[-1], side) for side in rest):
            return Unread(text)
    if len(sides) > (2 if name else 1) and re.fullmatch(r"[0-9.]+ ?\\ldots", sides[-1]):  # 1/3 = 0.333…
        sides = sides[:-1]
    if len(sides) == 2 and name is None and _is_name(sides[1]) and plain_number(sides[0]) is not None:  # 31 = a_5
        sides, name = sides[::-1], sides[1]
    value = _read(sides[-1], depth + 1)
    if modulus and isinstance(value, Value):
        value = modulo(value, modulus)
    if len(sides) == 1:
        return value
    return Equation(tuple(sides), name, value)


def _near(exact: str, approximate: str) -> bool:
    """Whether a decimal may be an approximation, as far as plain numbers show: 7/3 ≈ 2.33."""
    one, other = plain_number(exact), plain_number(approximate)
    return one is None or other is None or abs(one - other) <= abs(one) / 50


def _is_name(side: str) -> bool:
    return _NAME.fullmatch(side) is not None and not re.fullmatch(r"\\pi|e|i|⟨[^⟨⟩]*\bnot\b[^⟨⟩]*⟩", side)
