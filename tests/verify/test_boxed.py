r"""The last complete box of a text."""

from __future__ import annotations

import time

import pytest

from unigrad.verify.boxed import is_cut, last_boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{1}. Wait, \boxed{2}", "2"),
        (r"\boxed{1}, so \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$x = \boxed{1}$ or $x = \boxed{2}$", "1, 2"),
        (r"(a) $\boxed{1}$ (b) $\boxed{2}$", "1, 2"),
        ("\\boxed{1}\n\\boxed{2}", "2"),
        (r"\boxed{2} and \boxed{2}", "2"),
        (r"in \boxed{}: \boxed{2}", "2"),
        (r"\\boxed{\\frac{1}{2}}", r"\frac{1}{2}"),
        ("\x08oxed{2}", "2"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"so $\boxed 5$.", "5"),
        (r"so \boxed -5.", "-5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{1\}}", r"1\}"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{4} but \boxed{\frac{1}{2}", "4"),
        (r"{{{ \boxed{4}", "4"),
        (r"}}} \boxed{4}", "4"),
        (r"\boxed{4}. I put it in \boxed as you asked", "4"),
        (r"\boxed{}", ""),
        (r"\boxed{", None),
        ("no box: 5", None),
        ("", None),
    ],
)
def test_last_complete_box(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "cut"), [(r"so \boxed{12", True), (r"I put it in \boxed as you asked", False), ("", False)]
)
def test_a_box_that_was_never_closed(text: str, cut: bool) -> None:
    assert is_cut(text) == cut


def test_a_megabyte_of_openings_is_read_in_one_pass() -> None:
    start = time.monotonic()
    assert last_boxed(r"\boxed{" * 150_000) is None
    assert last_boxed(r"\boxed{" * 150_000 + "4}") == "4"
    assert time.monotonic() - start < 10  # trying each opening in turn takes hours
