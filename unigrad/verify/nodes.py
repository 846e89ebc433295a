"""What an answer can be. Items are LaTeX still, as `notation` spells it: no parser of formulas has seen them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Value:
    """A number or formula. `number` where it is a plain number, without its percent sign."""

    latex: str
    number: Fraction | None = None
    percent: bool = False
    unit: str | None = None
    product: str | None = None
    """24m with the m read as a variable, where `latex` is 24."""
    modulus: int | None = None


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a base other than ten."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A time, or a ratio: 3:30 p.m., 1:2:3."""

    parts: tuple[int, ...]
    half: str | None = None


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Words and numbers of which no rule knows what they say: equal to the same text alone."""

    text: str


@dataclass(frozen=True, slots=True)
class Several:
    """Values side by side (`,` `;` and, or): any order, each as often as it stands there."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Braced:
    r"""\{1, 2\}"""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Bracketed:
    """A pair, a vector, or an interval."""

    items: tuple[Node, ...]
    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain of <, >, ≤, ≥, ≠: `signs` stand between `sides`."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """Sets put together: union, intersection or difference."""

    operation: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Sides of `=`; `name` is the first where that names the rest (x, f(x), Area)."""

    sides: tuple[str, ...]
    name: str | None
    value: Node


@dataclass(frozen=True, slots=True)
class Reals:
    pass


@dataclass(frozen=True, slots=True)
class Empty:
    """The empty set: no solution."""


Node = (
    Value | Based | Clock | Words | Unread | Several | Braced | Bracketed | Relation | Region | Equation | Reals | Empty
)


def without_name(node: Node) -> Node:
    """The value of x = 5; anything else as it is."""
    return node.value if isinstance(node, Equation) and node.name else node
