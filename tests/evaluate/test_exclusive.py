"""Exclusive solves: the counts of Table 4, McNemar's test, and folders that do not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from unigrad.errors import ConfigError
from unigrad.evaluate import Exclusive, exclusive_solves


def evaluation(folder: Path, right: list[int], samples: int = 1, name: str = "set") -> Path:
    """A finished evaluation of problems p0, p1, …, their levels 1 and 2 in turn."""
    counts = {f"p{i}": {"n": samples, "c": c, "level": 1 + i % 2} for i, c in enumerate(right)}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"benchmarks": {name: {"title": "Set", "counts": counts}}}))
    return folder


def test_what_each_solves_alone_by_level_and_overall(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", [1, 1, 1, 0, 0, 1])
    second = evaluation(tmp_path / "b", [0, 1, 0, 1, 0, 0])
    found = exclusive_solves(first, second)["set"]
    assert found.overall == Exclusive(problems=6, first=3, second=1)
    assert found.by_level == {1: Exclusive(3, 2, 0), 2: Exclusive(3, 1, 1)}
    assert found.data()["overall"]["p_value"] == binomtest(1, 4).pvalue


def test_solved_is_more_than_half_of_the_samples(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", [2, 3, 4], samples=4)
    second = evaluation(tmp_path / "b", [0, 0, 0], samples=4)
    assert exclusive_solves(first, second)["set"].overall == Exclusive(3, 2, 0)


@pytest.mark.parametrize(("first", "second"), [(58, 15), (43, 16), (27, 8), (5, 1), (1, 1), (0, 1), (700, 640)])
def test_the_p_value_is_the_exact_binomials(first: int, second: int) -> None:
    exact = binomtest(first, first + second).pvalue
    assert Exclusive(2000, first, second).p_value == pytest.approx(exact, rel=1e-9)
    assert Exclusive(2000, second, first).p_value == Exclusive(2000, first, second).p_value


def test_no_exclusive_solve_is_no_evidence() -> None:
    assert Exclusive(10, 0, 0).p_value == 1.0


def test_folders_that_do_not_go_together(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", [1, 1])
    with pytest.raises(ConfigError, match="holds no finished evaluation"):
        exclusive_solves(first, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is an evaluation of other, not of set"):
        exclusive_solves(first, evaluation(tmp_path / "b", [1, 1], name="other"))
    with pytest.raises(ConfigError, match=r"other problems of set \(3 of them, 2 here\)"):
        exclusive_solves(first, evaluation(tmp_path / "c", [1, 1, 0]))
