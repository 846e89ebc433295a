"""Whether two answers that were read are the same; what needs algebra is asked of an `Algebra`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from operator import itemgetter
from typing import Protocol

from unigrad.types import Reason
from unigrad.verify.nodes import (
    Based,
    Braced,
    Bracketed,
    Clock,
    Equation,
    Node,
    Several,
    Unread,
    Value,
    Words,
    without_name,
)
from unigrad.verify.notation import spell
from unigrad.verify.numbers import plain_number
from unigrad.verify.reading import read, read_otherwise
from unigrad.verify.words import MONTHS


class Algebra(Protocol):
    """Raises UnreadableError where what it is given is no formula."""

    def equal(self, gold: str, given: str) -> bool: ...
    def equal_hundredfold(self, percentage: str, plain: str) -> bool: ...
    def same_region(self, gold: Node, given: Node) -> bool: ...
    def same_equation(self, gold: tuple[str, ...], given: tuple[str, ...]) -> bool: ...


class NeedsAlgebraError(Exception):
    """The texts alone do not decide."""


class UnreadableError(Exception):
    """An answer is no formula that can be read; `gold` says whose."""

    def __init__(self, gold: bool) -> None:
        super().__init__("gold" if gold else "given")
        self.gold = gold


class TextAlone:
    """The algebra of a process that has none."""

    def equal(self, gold: str, given: str) -> bool:
        raise NeedsAlgebraError

    def equal_hundredfold(self, percentage: str, plain: str) -> bool:
        raise NeedsAlgebraError

    def same_region(self, gold: Node, given: Node) -> bool:
        raise NeedsAlgebraError

    def same_equation(self, gold: tuple[str, ...], given: tuple[str, ...]) -> bool:
        raise NeedsAlgebraError


_NUMERAL = re.compile("[+-]?[0-9]{1,30}(?:[.][0-9]{1,30})?")
_MARKS = re.compile("[ ⟨⟩]")
_LETTER_OPTIONS = re.compile("[A-J]{2,10}")
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|[A-Za-z0-9])")
_OF_VARIABLES = re.compile(r"[0-9] ?(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|(?<![\\a-zA-Z])[a-zA-Z] ?\^ ?\{? ?[0-9]")
"""An equation to be solved, whose right side is no answer: x^2 + y^2 = 12, 2x + 3y = 6; but a + b + c = 12."""
_LETTERS = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]")


def judge(extracted: str, gold: str, algebra: Algebra) -> Reason:
    """The verdict on two answers as they were written. Raises what `algebra` raises."""
    if _NUMERAL.fullmatch(extracted) and _NUMERAL.fullmatch(gold):  # most answers, and most of the time
        return Reason.RIGHT if Fraction(extracted) == Fraction(gold) else Reason.WRONG
    if _MARKS.sub("", spell(extracted)) == _MARKS.sub("", spell(gold)):
        return Reason.RIGHT
    gold_node, node = read(gold), read(extracted)
    if gold_node is None:
        return Reason.BAD_GOLD
    if node is None:
        return Reason.UNPARSEABLE
    try:
        right = same(gold_node, node, algebra)
        if not right and (otherwise := read_otherwise(extracted, gold_node)):
            right = same(gold_node, otherwise, algebra)
    except UnreadableError as error:
        return Reason.BAD_GOLD if error.gold else Reason.UNPARSEABLE
    return Reason.RIGHT if right else Reason.WRONG


def same(gold: Node, given: Node, algebra: Algebra) -> bool:
    """Whether `given` says what `gold` says. Raises UnreadableError where one of them is not read."""
    if gold == given:
        return True
    if isinstance(gold, Unread) and isinstance(given, Unread) and _loosely(gold.text) == _loosely(given.text):
        return True
    if isinstance(gold, Unread):
        raise UnreadableError(gold=True)
    if isinstance(given, Unread):
        raise UnreadableError(gold=False)
    if isinstance(gold, Equation) or isinstance(given, Equation):
        return _same_equations(gold, given, algebra)
    if isinstance(gold, Value) and isinstance(given, Value):
        return _same_values(gold, given, algebra)
    if isinstance(gold, Clock) or isinstance(given, Clock):
        return _same_clocks(gold, given)
    for letters, several in ((gold, given), (given, gold)):  # ABD and A, B, D
        if isinstance(letters, Value) and isinstance(several, Several) and _LETTER_OPTIONS.fullmatch(letters.latex):
            return [item.latex for item in several.items if isinstance(item, Value)] == list(letters.latex)
    if isinstance(gold, Value) and isinstance(given, Words) and gold.latex.isalpha() and gold.latex.islower():
        return sorted(gold.latex) == sorted(given.text)  # acb is abc, though it reads like a word
    if isinstance(gold, Value | Words | Based) or isinstance(given, Value | Words | Based):
        return False
    if isinstance(gold, Several | Braced) and isinstance(given, Several | Braced):
        return _same_collections(gold, given, algebra)
    if isinstance(gold, Bracketed) and isinstance(given, Bracketed):
        return _same_brackets(gold, given, algebra)
    if isinstance(gold, Bracketed) and isinstance(given, Several):
        return _is_round(gold) and _in_order(gold.items, _by_name(given), algebra)
    if isinstance(gold, Several) and isinstance(given, Bracketed):
        return _names(gold) is not None and _is_round(given) and _in_order(_by_name(gold), given.items, algebra)
    if isinstance(gold, Several) or isinstance(given, Several) or {type(gold), type(given)} == {Braced, Bracketed}:
        return False
    return algebra.same_region(gold, given)


def _loosely(text: str) -> str:
    """Words and numbers, in any case: July 14th, july 14."""
    text = re.sub(r"(?<=[0-9]) ?⟨(?:st|nd|rd|th)⟩|\\text\{and\}|⟨and⟩|[⟨⟩,.]", " ", text.casefold())
    tokens = re.findall(r"[^\W\d_]+|[0-9]+|[^\w\s]", text)
    return "".join(sorted(tokens) if MONTHS.intersection(tokens) else tokens)


def _same_values(gold: Value, given: Value, algebra: Algebra) -> bool:
    if gold.unit and given.unit and gold.unit != given.unit:
        return False
    if gold.modulus and given.modulus and gold.modulus != given.modulus:
        return False
    gold_latex, given_latex = gold.latex, given.latex
    if gold.product or given.product:  # 24m is 24 m where the other has no letters
        gold_letters, given_letters = (
            (side.number is None and _LETTERS.search(side.latex)) or (other.product and side.product)
            for side, other in ((gold, given), (given, gold))
        )
        if gold_letters or given_letters:
            gold_latex, given_latex = gold.product or gold_latex, given.product or given_latex
            if gold.number is not None and gold.number == given.number and gold.unit == given.unit:
                return gold_latex.replace(" ", "") == given_latex.replace(" ", "")
            return algebra.equal(gold_latex, given_latex)
    percentage, plain = (given, gold) if given.percent else (gold, given)
    if percentage.number is not None and plain.number is not None:
        return gold.number == given.number or (
            gold.percent != given.percent and percentage.number == 100 * plain.number
        )
    if _LETTER_OPTIONS.fullmatch(gold.latex) and len(gold.latex) > 2:  # the vertices of a figure: no product
        return gold.latex == given.latex.replace(" ", "")
    if algebra.equal(gold_latex, given_latex):
        return True
    return gold.percent != given.percent and algebra.equal_hundredfold(percentage.latex, plain.latex)


def _same_clocks(gold: Node, given: Node) -> bool:
    if isinstance(gold, Clock) and isinstance(given, Clock):
        return gold.parts == given.parts and (gold.half == given.half or None in (gold.half, given.half))
    clock, other = (gold, given) if isinstance(gold, Clock) else (given, gold)
    assert isinstance(clock, Clock)  # by the caller
    if not isinstance(other, Value) or other.number is None or len(clock.parts) != 2 or clock.half:
        return False
    return clock.parts[1] != 0 and other.number * clock.parts[1] == clock.parts[0]


def _same_equations(gold: Node, given: Node, algebra: Algebra) -> bool:
    if isinstance(gold, Equation) and isinstance(given, Equation):
        if gold.name and given.name:
            if _plain_name(gold.name) == _plain_name(given.name):
                return same(gold.value, given.value, algebra)
            if "(" in gold.name + given.name and "y" in (gold.name, given.name):  # f(x) = … is y = …
                return same(gold.value, given.value, algebra)
            if not (isinstance(gold.value, Value) and isinstance(given.value, Value)):
                return False
            if gold.value.number is not None and given.value.number is not None and "⟨" not in gold.name + given.name:
                return False
            if "⟨" in gold.name + given.name:
                return same(gold.value, given.value, algebra)
        return algebra.same_equation(gold.sides, given.sides)
    if isinstance(gold, Equation):
        return gold.name is not None and same(gold.value, given, algebra)
    assert isinstance(given, Equation)  # by the caller
    if not _holds(given, algebra) or (given.name is None and _OF_VARIABLES.search(_SUBSCRIPT.sub("", given.sides[0]))):
        return False
    return same(gold, given.value, algebra)


def _holds(equation: Equation, algebra: Algebra) -> bool:
    """Whether the sides of an equation without a name are equal: 3 + 4 = 8 answers nothing."""
    sides = equation.sides[1:] if equation.name else equation.sides
    if any(_LETTERS.search(side) or "⟨" in side for side in sides):
        return True
    numbers = [plain_number(side) for side in sides]
    if None not in numbers:
        return len(set(numbers)) == 1
    try:
        return all(
            algebra.equal(sides[-1].rstrip("%"), side.rstrip("%")) or "%" in side + sides[-1] for side in sides[:-1]
        )
    except UnreadableError:
        return True


def _same_collections(gold: Several | Braced, given: Several | Braced, algebra: Algebra) -> bool:
    gold_names, names = _names(gold), _names(given)
    if gold_names and names:
        if set(gold_names) == set(names):
            values = dict(zip(names, given.items, strict=True))
            return all(same(item, values[name], algebra) for name, item in zip(gold_names, gold.items, strict=True))
        if not all(_SUBSCRIPT.search(name) for name in (*gold_names, *names)):
            return False
    if gold_names and isinstance(given, Several) and not any(_SUBSCRIPT.search(name) for name in gold_names):
        return _in_order(gold.items, given.items, algebra)
    gold_items, items = [without_name(item) for item in gold.items], [without_name(item) for item in given.items]
    if isinstance(gold, Braced) and isinstance(given, Braced):
        gold_items, items = _distinct(gold_items, algebra), _distinct(items, algebra)
    return _matched(gold_items, items, algebra)


def _matched(gold: Sequence[Node], given: Sequence[Node], algebra: Algebra) -> bool:
    """Whether the items pair off; equality is transitive, so the first partner is as good as any."""
    if len(gold) != len(given):
        return False
    left = list(given)
    unsettled: Exception | None = None
    for item in gold:
        for position, other in enumerate(left):
            try:
                found = same(item, other, algebra)
            except NeedsAlgebraError as error:
                unsettled = error
                continue
            if found:
                del left[position]
                break
        else:
            if unsettled:
                raise unsettled
            return False
    return True


def _distinct(items: Sequence[Node], algebra: Algebra) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if not any(same(item, other, algebra) for other in kept):
            kept.append(item)
    return kept


def _same_brackets(gold: Bracketed, given: Bracketed, algebra: Algebra) -> bool:
    if (gold.opening, gold.closing) != (given.opening, given.closing):
        return False
    return _in_order(gold.items, given.items, algebra)


def _is_round(node: Bracketed) -> bool:
    return (node.opening, node.closing) == ("(", ")")


def _in_order(gold: Sequence[Node], given: Sequence[Node], algebra: Algebra) -> bool:
    return len(gold) == len(given) and all(
        same(without_name(item), without_name(other), algebra) for item, other in zip(gold, given, strict=True)
    )


def _names(collection: Several | Braced) -> list[str] | None:
    """The names of its items where each has one of its own: x = 5, y = 7."""
    names = [_plain_name(item.name) for item in collection.items if isinstance(item, Equation) and item.name]
    if len(names) == len(collection.items) and len(set(names)) == len(names):
        return names
    return None


def _by_name(several: Several) -> tuple[Node, ...]:
    """The values in the order of their names, if they have some; else as they are written."""
    names = _names(several)
    if names is None:
        return several.items
    return tuple(without_name(item) for _, item in sorted(zip(names, several.items, strict=True), key=itemgetter(0)))


def _plain_name(name: str) -> str:
    return re.sub(r"[ {}]", "", name)
