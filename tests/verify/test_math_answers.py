"""Reading math answers, and what is settled without math-verify."""

from __future__ import annotations

import pytest

from unigrad.types import Reason
from unigrad.verify.math_answers import compare, extract
from unigrad.verify.notation import normalise


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
        # A model's special tokens.
        ("It is 42<|reserved_special_token_7|>", "42"),
        ("<think>6*7</think>42 <unused99><pad>", "42"),
        (r"\boxed{}", None),
        (r"It is 12, so \boxed{1", None),  # cut off
        (r"\boxed{" + "1" * 2_001 + "}", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_extract(completion: str, answer: str | None) -> None:
    assert extract(completion) == answer


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
        ("an Ellipse.", r"\text{ellipse}", Reason.RIGHT),
        ("5800 K", "5800", Reason.RIGHT),
        ("3 m/s^2", "3", Reason.RIGHT),
        ("5800 K", "n", None),  # K may be a variable
        (r"\lambda=6.4e-7", "6.4e-7", Reason.RIGHT),
        ("413_{7}", "413_7", Reason.RIGHT),
        ("413_8", "413_7", Reason.WRONG),
        ("413", "413_7", Reason.WRONG),
        ("x_1", "x_2", None),
        ("8:30", "4:15", Reason.WRONG),
        ("5:12:1", "5/12", Reason.WRONG),
        ("5:12", r"\frac{5}{12}", None),
        ("[4,-7]", "(4,-7)", Reason.WRONG),
        ("(4,5],(6,7)", "(4,5),(6,7)", None),
    ],
)
def test_compare(extracted: str, gold: str, reason: Reason | None) -> None:
    assert compare(normalise(extracted), normalise(gold)) == reason
