r"""The final answer of a text without a box."""

from __future__ import annotations

import time

import pytest

from unigrad.verify.unboxed import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She has 5 apples and 1,234.50 pears.", "1,234.50"),
        ("The total is $18.", "18"),
        (r"It costs \$18,000.", r"\$18,000"),
        ("It costs $5 today and $6 tomorrow.", "6"),
        ("So it is -5.", "-5"),
        ("The answer is - 5", "- 5"),
        ("- 5 apples", "5"),
        ("We get 10-3", "10-3"),
        ("so 9 x 30 = 270 classrooms", "270"),
        ("so 9 * 30 = 270 classrooms", "270"),
        ("so 9 X 30 = 270.", "270"),
        ("5 apples + 4 = 9", "9"),
        ("He made $200,000 - $130,000 = $70,000.", "70,000"),
        ("x^2 + y^2 = 12", "x^2 + y^2 = 12"),
        ("There is a 5% chance", "5%"),
        ("about .5", ".5"),
        ("The answer is $2\\sqrt{3}$.", "2\\sqrt{3}"),
        ("The answer is $ \\frac{3}{4} $.", "\\frac{3}{4}"),
        ("The point is (3, 5).", "(3, 5)"),
        ("y = 2x + 3.", "y = 2x + 3"),
        ("x > 5", "x > 5"),
        ("at least 5", "at least 5"),
        ("It is 1 000.", "1 000"),
        ("The total is **$9{,}500**.", "9{,}500"),
        ("The answer is 3 million dollars.", "3 million dollars"),
        ("The roots are 3 and 5.", "3, 5"),
        ("He had 3 and bought 5.", "5"),
        ("The answer is 5, not 3.", "5"),
        ("It is 3 (mod 5).", "3 (mod 5)"),
        ("<answer> 7 </answer> in 5 steps", "7"),
        ("答案是45。", "45"),
        ("3万人", "3 万"),
        ("#### 5", "5"),
        ("nothing", None),
        ("The answer is not 5.", None),
        ("", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("junk", ["1 ", "1,", "$1", "not 1 ", "is 1, ", "(1, ", "= 1 + ", "<answer>", "一1", "\\(1"])
def test_junk_takes_no_time(junk: str) -> None:
    start = time.monotonic()
    final_answer(junk * (200_000 // len(junk)))
    assert time.monotonic() - start < 10  # seconds; what backtracks takes hours
