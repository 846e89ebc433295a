"""What is shown while completions are sampled."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from unigrad.evaluate.completions import Sample
from unigrad.evaluate.progress import Display
from unigrad.types import Reason


def test_the_time_left_follows_whole_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a chunk the short completions end first: two after 10 s, and the other eighteen 30 s later."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    right = Sample("p", 0, "2", 10, False, Reason.RIGHT, "2", True)
    wrong = Sample("p", 1, "3", 30, True, Reason.WRONG, "3", False)
    printed = io.StringIO()
    with Display(Console(file=printed, width=200), 45, 5, "model") as display:
        now = 110.0
        display.advance("gsm8k", [right, right])
        now = 140.0
        display.advance("gsm8k", [wrong] * 18)
        display.chunk_ended()
        now = 141.0
        display.advance("math500", [right])
    lines = printed.getvalue().splitlines()
    assert lines == [
        "model 7/45  gsm8k  right 100.0%  truncated 0.0%  2 tokens/s  3:10 left",
        "model 25/45  gsm8k  right 10.0%  truncated 90.0%  14 tokens/s  0:40 left",
        "model 26/45  math500  right 14.3%  truncated 85.7%  14 tokens/s  0:38 left",
    ]
