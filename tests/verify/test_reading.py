r"""What an answer is."""

from __future__ import annotations

from fractions import Fraction

import pytest

from unigrad.verify.nodes import (
    Based,
    Braced,
    Bracketed,
    Clock,
    Empty,
    Equation,
    Reals,
    Region,
    Relation,
    Several,
    Unread,
    Value,
    Words,
)
from unigrad.verify.numbers import plain_number
from unigrad.verify.reading import read

ONE, TWO, THREE = (Value(str(number), Fraction(number)) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "node"),
    [
        ("2, 3", Several((TWO, THREE))),
        ("2 and 3", Several((TWO, THREE))),
        (r"\{2, 3\}", Braced((TWO, THREE))),
        ("(2, 3)", Bracketed((TWO, THREE), "(", ")")),
        ("]2; 3]", Bracketed((TWO, THREE), "(", "]")),
        ("2<x", Relation(("2", "x"), ("<",))),
        (r"x<2 \text{ or } x>3", Region("union", (Relation(("x", "2"), ("<",)), Relation(("x", "3"), (">",))))),
        (r"x>2 \text{ and } x<3", Region("intersection", (Relation(("x", "2"), (">",)), Relation(("x", "3"), ("<",))))),
        (r"\{x \mid x<2\}", Relation(("x", "2"), ("<",))),
        (r"\mathbb{R}\setminus\{2\}", Region("difference", (Reals(), Braced((TWO,))))),
        ("x = 2", Equation(("x", "2"), "x", TWO)),
        (r"x = 2 \approx 2.00", Equation(("x", "2"), "x", TWO)),
        (r"\pm 2", Several((TWO, Value("- 2", Fraction(-2))))),
        (r"\text{no solution}", Empty()),
        (r"\varnothing", Empty()),
        (r"\text{all real numbers}", Reals()),
        ("1010_{\\text{two}}", Based("1010", 2)),
        ("1A base 16", Based("1A", 16)),
        ("4:15 p.m.", Clock((4, 15), "pm")),
        ("1:2:3", Clock((1, 2, 3))),
        ("Monday", Words("monday")),
        ("the moon", Words("moon")),
        ("3 plus four", Unread("3 ⟨plus four⟩")),
        (r"\{x \in \mathbb{Z} : x<2\}", Unread(r"\{x \in \mathbb{Z} : x<2\}")),
    ],
)
def test_kinds_of_answers(answer: str, node: object) -> None:
    assert read(answer) == node


@pytest.mark.parametrize("answer", ["", " ", ".", "$$"])
def test_nothing(answer: str) -> None:
    assert read(answer) is None


@pytest.mark.parametrize(
    ("answer", "number", "unit"),
    [
        ("3 million", 3_000_000, None),
        ("2.5 thousand dollars", 2_500, "dollar"),
        ("3 dozen eggs", 36, None),
        ("thirty-six", 36, None),
        ("two thirds", Fraction(2, 3), None),
        ("3万", 30_000, None),
        ("27cm", 27, "cm"),
        ("27 square centimeters", 27, "cm"),
        ("$27", 27, None),
        (r"\$27", 27, "dollar"),
        ("USD 27", 27, "dollar"),
        ("9 (apples)", 9, None),
        ("27 m/s^2", 27, "m"),
        (r"27 kg\cdot m/s", 27, "kg"),
        ("27 J/(mol K)", 27, None),
        ("27元", 27, "yuan"),
        ("She has 27 apples", 27, None),
        ("negative 27", -27, None),
        ("27th", 27, None),
        ("(D) 27", 27, None),
        (r"640 \pmod{1000}", 640, None),
        (r"33\frac13\%", Fraction(100, 3), None),
        ("1'234'567", 1_234_567, None),
        ("0,25", Fraction(1, 4), None),
        (r"6.4 x 10^{-7}", Fraction(64, 10**8), None),
    ],
)
def test_numbers_with_words_and_units(answer: str, number: Fraction | int, unit: str | None) -> None:
    node = read(answer)
    assert isinstance(node, Value)
    assert (node.number, node.unit) == (number, unit)


@pytest.mark.parametrize(
    "answer",
    ["3 or more", "at least 3", "3 squared", "3 halves", "3 is wrong", "not 3", "5 feet 3 inches", "March 3",
     "3 minutes and 5 seconds", "3以上", "3 billionths", "3 to 5", "3 divided by 4"],
)  # fmt: skip
def test_words_that_make_it_another_answer(answer: str) -> None:
    assert read(answer) != read("3")
    assert not (isinstance(node := read(answer), Value) and node.number == 3)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.5", Fraction(2469, 2)),
        (r"-\frac{3}{4}", Fraction(-3, 4)),
        (r"\frac34", Fraction(3, 4)),
        ("3 1/2", Fraction(7, 2)),
        ("31/2", Fraction(31, 2)),
        (r"-3\frac{1}{2}", Fraction(-7, 2)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        ("4e33", 4 * 10**33),
        ("10^{-3}", Fraction(1, 1000)),
        ("1/0", None),
        ("9" * 65, None),
        ("x", None),
        ("", None),
    ],
)
def test_plain_numbers_are_exact(text: str, number: Fraction | None) -> None:
    assert plain_number(text) == number
