"""One line of an error, and the nearest name."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from unigrad import files
from unigrad.errors import ConfigError, nearest, one_line


@pytest.mark.parametrize(
    ("name", "known", "cutoff", "found"),
    [
        ("gropo", ["sft", "grpo", "dapo"], 0.0, "grpo"),
        ("zzz", ["sft", "grpo"], 0.6, None),
        ("zzz", [], 0.0, None),
    ],
)
def test_the_nearest_name(name: str, known: list[str], cutoff: float, found: str | None) -> None:
    assert nearest(name, known, cutoff) == found
    # As from a mapping, or read once.
    assert nearest(name, iter(known), cutoff) == found


def test_without_a_cutoff_some_name_is_always_the_nearest() -> None:
    assert nearest("zzz", {"sft": 1, "grpo": 2}) in ("sft", "grpo")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no  such\n  file"), "no such file"),
        (OSError("\ncannot read x:\n\nTry this:\n  pip install y"), "cannot read x"),
        (RuntimeError(), "RuntimeError"),
        (FileNotFoundError(2, "No such file", "x"), "[Errno 2] No such file: 'x'"),
    ],
)
def test_one_line_of_an_error(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_a_system_without_file_locks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigError, match="unigrad runs on Linux and macOS, on Windows inside WSL"):
        runpy.run_path(str(Path(files.__file__)))
