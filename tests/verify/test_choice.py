"""Multiple choice."""

from __future__ import annotations

import pytest

from unigrad.types import Reason, Verdict
from unigrad.verify import verify


@pytest.mark.parametrize(
    ("completion", "option"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{c}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{\textbf{(C)}\ 5}", "C"),
        (r"\boxed{C. Days become shorter}", "C"),
        (r"\boxed{\text{Option C}}", "C"),
        (r"\boxed{A} no, \boxed{C}", "C"),
        (r"The answer is A. \boxed{C}", "C"),
        ("The answer is C", "C"),
        ("The answer is (C) because (A) and (B) are wrong.", "C"),
        ("Answer: C. Not D.", "C"),
        ("the correct option is **C**", "C"),
        ("The answer is A. Wait: the answer is C, not B.", "C"),
        ("A) is too small, so I choose (C).", "C"),
        ("Let me think.\n\nC", "C"),
        ("C) Days become shorter", "C"),
        ("There are 5 planets.\nC. They number 8.", "C"),
        ("The answer is a planet", None),
        (r"\boxed{42}. The answer is C", None),
        (r"\boxed{C and D}", None),
        (r"\boxed{C, D}", None),
        (r"\boxed{(C) or (D)}", None),
        (r"\boxed{C. D.}", None),
        (r"\boxed{C. both A and B}", "C"),
        (r"\boxed{C", None),
        ("The answer is C or D.", None),
        ("The answer is not C.", None),
        ("I choose **C**.", "C"),
        ("I like it", None),
        ("", None),
    ],
)
def test_letter(completion: str, option: str | None) -> None:
    reason = Reason.RIGHT if option else Reason.UNPARSEABLE
    assert verify(completion, "C", "choice") == Verdict(option == "C", option, reason)


def test_another_letter_is_wrong() -> None:
    assert verify(r"\boxed{D}", "C", "choice") == Verdict(False, "D", Reason.WRONG)


@pytest.mark.parametrize("marker", ["<pad>", "<s>", "<|eom_id|>", "<unused3>", "<|reserved_A|>", "<PAD>"])
@pytest.mark.parametrize(
    "completion", ["C", "**C**", "The answer is C", "A or B? No:\nC", r"\boxed{C}", "<think>A.</think>C"]
)
def test_special_tokens_are_no_part_of_an_option(completion: str, marker: str) -> None:
    for text in (completion + marker, f"{marker}{completion} {marker}", f"{marker}\n{completion}\n{marker}"):
        assert verify(text, "C", "choice") == Verdict(True, "C", Reason.RIGHT)


@pytest.mark.parametrize("completion", [r"\boxed{2}", "The answer is 2.", "(2)", "2) both (A) and (B)", "Answer: 2"])
def test_digit_labels(completion: str) -> None:
    assert verify(completion, "2", "choice") == Verdict(True, "2", Reason.RIGHT)


@pytest.mark.parametrize("completion", [r"\boxed{2.5}", "The answer is 2.5.", r"\boxed{2, 3}", r"\boxed{B}"])
def test_a_number_is_no_digit_label(completion: str) -> None:
    assert not verify(completion, "2", "choice").correct


@pytest.mark.parametrize("gold", ["(C)", "c", r"\text{C}", " C. "])
def test_gold_may_be_decorated(gold: str) -> None:
    assert verify(r"\boxed{C}", gold, "choice").correct


@pytest.mark.parametrize("gold", ["", "Z", "12", "C or D"])
def test_bad_gold(gold: str) -> None:
    assert verify(r"\boxed{C}", gold, "choice") == Verdict(False, None, Reason.BAD_GOLD)
