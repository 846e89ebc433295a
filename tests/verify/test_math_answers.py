"""Reading math answers, and what is settled without math-verify."""

from __future__ import annotations

import pytest

from unigrad.types import Reason
from unigrad.verify.math_answers import as_latex, compare, extract, normalise


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"First 12, then \boxed{18}. Check: 3", "18"),
        ("She has 5 apples and 1,234.50 pears.", "1,234.50"),
        ("The total is $18.", "18"),
        (r"It costs \$18,000.", "18,000"),
        ("So it is -5.", "-5"),
        ("So it is \u22125.", "\u22125"),
        ("We get 10-3", "3"),
        ("The chance is 3/4 of it", "3/4"),
        (r"The answer is $-\frac{3}{4}$", r"-\frac{3}{4}"),
        ("about .5", ".5"),
        ("2^10", "2"),
        (r"\boxed{}", None),
        (r"\boxed{" + "1" * 2_001 + "}", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_extract(completion: str, answer: str | None) -> None:
    assert extract(completion) == answer


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\$32,\!348", "32,348"),
        (r"11,\! 111,\! 100", "11,111,100"),
        (r"10\,080", "10,080"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"f^\circledast", r"f^\circledast"),
        (r"864 \mbox{ inches}^2", "864"),
        (r"5.4 \text{ cents}.", "5.4"),
        ("18 dollars", "18"),
        ("15 cm^2", "15"),
        ("60 miles per hour.", "60"),
        ("2 sin x", "2 sin x"),
        (r"\text{even}", r"\text{even}"),
        (r"3 \text{ or } 4", r"3 \text{ or } 4"),
        (r"50\%", "50%"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\leftarrow", r"\leftarrow"),
    ],
)
def test_normalise(answer: str, normal: str) -> None:
    assert normalise(answer) == normal


@pytest.mark.parametrize(
    ("extracted", "gold", "reason"),
    [
        ("18", "18", Reason.RIGHT),
        ("18.0", "18", Reason.RIGHT),
        ("018", "18", Reason.RIGHT),
        ("1,234", "1234", Reason.RIGHT),
        ("+2", "2", Reason.RIGHT),
        ("-2", "2", Reason.WRONG),
        ("0.1", "1/10", Reason.RIGHT),
        ("0.333333", "1/3", Reason.WRONG),  # exact: 1/3 − 0.333333 = 1/3000000
        ("2/4", r"\frac12", Reason.RIGHT),
        (r"\frac{270}7", "270/7", Reason.RIGHT),
        (r"-\frac{1}{2}", r"\frac{-1}{2}", Reason.RIGHT),
        ("x=5", "5", Reason.RIGHT),
        ("x = 5", "y=5", Reason.WRONG),
        ("50%", "50", Reason.RIGHT),
        ("50%", "0.5", Reason.RIGHT),
        ("100%", "1%", Reason.WRONG),
        ("0", "1e-8", Reason.WRONG),  # math-verify rounds both to 6 decimals
        (r"5.3 \times 10^{-9}", "5.3e-9", Reason.RIGHT),
        (r"4 \cdot 10^{33}", "4e33", Reason.RIGHT),
        ("10^{-8}", "1e-8", Reason.RIGHT),
        ("1/0", "5", None),
        ("11, 111", "11111", None),  # a list
        ("9" * 65, "5", None),
        ("seat", r"\text{east}", Reason.WRONG),
        ("East", r"\text{east}", Reason.RIGHT),
        ("seat", "east", Reason.WRONG),
        ("C", r"\text{(C)}", Reason.RIGHT),
        ("(x+1)^2", "(x+1)^{2}", None),
        ("(1, 2)", "( 1, 2 )", Reason.RIGHT),
        ("", "5", None),
    ],
)
def test_compare(extracted: str, gold: str, reason: Reason | None) -> None:
    assert compare(normalise(extracted), normalise(gold)) == reason


def test_scientific_notation_is_spelt_out_for_math_verify() -> None:
    assert as_latex("-4.5e33") == r"-4.5 \times 10^{33}"
    assert as_latex("3e^{-2t}") == "3e^{-2t}"
    assert as_latex("3/4") == "3/4"
