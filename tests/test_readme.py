"""The README's two lines are what CI runs and what the package offers."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN_LINE = "pip install -e . && unigrad train"
TEST_LINE = "pip install -e '.[dev]' && pytest"


def test_the_two_lines_stand_in_the_readme_alone_on_their_lines() -> None:
    lines = [line.strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert RUN_LINE in lines
    assert TEST_LINE in lines


def test_ci_runs_both_lines_word_for_word() -> None:
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    assert RUN_LINE in lines
    assert TEST_LINE in lines


def test_the_package_has_what_the_lines_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["unigrad"] == "unigrad.cli:main"
    assert "dev" in project["optional-dependencies"]
