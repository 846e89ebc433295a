"""Figure 2 and Tables 2 to 4, from the results of two evaluations."""

from __future__ import annotations

from pathlib import Path

from written_runs import write_evaluation

from unigrad.report.evaluations import find_evaluations
from unigrad.report.figures import pass_curves
from unigrad.report.tables import benchmark_table, exclusive_tables

RIGHT = {"p1": 4, "p2": 3, "p3": 0}


def test_the_tables_and_the_curves_of_two_models(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "ours", "ours", 0.6, RIGHT)
    write_evaluation(tmp_path / "theirs", "theirs", 0.4, {"p1": 1, "p2": 2, "p3": 4})
    (tmp_path / "no-evaluation").mkdir()
    found = find_evaluations([tmp_path / name for name in ("ours", "no-evaluation", "theirs")])
    table = benchmark_table(found)
    assert table is not None
    assert table.headings == ["model", "MATH-500", "Avg"]
    assert table.rows == [
        ["ours", "60.0 (50.0–70.0)", "60.0 (50.0–70.0)"], ["theirs", "40.0 (30.0–50.0)", "40.0 (30.0–50.0)"],
    ]  # fmt: skip
    assert table.best == {(0, 1), (0, 2)}
    # Solved: more than half of four. Ours alone: p1 and p2; theirs alone: p3.
    (exclusive,), problems = exclusive_tables(found)
    assert problems == []
    assert exclusive.headings == ["MATH-500", "level 3 (N = 1)", "level 5 (N = 2)", "overall (N = 3)"]
    assert exclusive.rows[:2] == [
        ["absolute", "+1 / −0", "+1 / −1", "+2 / −1"],
        ["percentage", "+100.0% / −0.0%", "+50.0% / −50.0%", "+66.7% / −33.3%"],
    ]
    drawn = pass_curves(found)
    assert drawn is not None
    (axes,) = drawn.figure.axes
    assert [line.get_label() for line in axes.get_lines()] == ["ours", "theirs"]
    assert list(axes.get_lines()[0].get_xdata()) == [1, 2, 4]


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", "same", 0.6, dict.fromkeys(RIGHT, 1), samples=1)
    write_evaluation(tmp_path / "b", "same", 0.6, {"other": 1}, samples=1)
    found = find_evaluations([tmp_path / "a", tmp_path / "b"])
    assert [evaluation.label for evaluation in found] == ["same (a)", "same (b)"]
    assert pass_curves(found) is None
    tables, (problem,) = exclusive_tables(found)
    assert tables == []
    assert problem.startswith("Table 4: ")
    assert "problems of math500" in problem


def test_none_at_all() -> None:
    assert pass_curves([]) is None
    assert benchmark_table([]) is None
    assert exclusive_tables([]) == ([], [])
