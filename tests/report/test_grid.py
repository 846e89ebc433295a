"""The reader of rollout files and the grid of Figures 3 and 4, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from written_runs import WriteRun, rollout_lines, write_rollouts

from unigrad.report.grid import Grid, build, difference, spread, thinned
from unigrad.runs.folder import rollouts_files
from unigrad.runs.rollouts import questions


def grid_of(run: Path) -> Grid:
    return build((step, each) for step, path in rollouts_files(run).items() for each in questions(path))


def test_a_grid_by_hand(write_run: WriteRun) -> None:
    outcomes = {
        "hard": [(0, 0), (0, 0), (1, 0)],
        "stage": [None, (1, 0), (1, 1)],
        "easy": [(1, 0), (1, 1)],
        "easier": [(1, 1), (1, 1), (1, 1)],
    }
    grid = grid_of(write_run("run", outcomes, {"hard": 5, "stage": 5, "easy": 3, "easier": 3}))
    assert grid.questions == ["easier", "easy", "stage", "hard"]
    assert grid.levels == [3, 3, 5, 5]
    expected = [[1, 1, 1], [0.5, 1, np.nan], [np.nan, 0.5, 1], [0, 0, 0.5]]
    np.testing.assert_array_equal(grid.accuracy, expected)
    assert grid.steps.tolist() == [[1, 2, 3], [1, 2, 0], [1, 2, 3], [1, 2, 3]]
    assert grid.by_level() == {3: [0, 1], 5: [2, 3]}


def test_the_difference_is_of_matched_questions_and_epochs(write_run: WriteRun) -> None:
    levels = {"a": 1, "b": 1}
    first = grid_of(write_run("first", {"a": [(1, 1), (1, 0), (1, 1)], "b": [(0, 0), (1, 1)], "only": [(1,)]}, levels))
    second = grid_of(write_run("second", {"b": [(1, 1), None], "a": [(0, 1), (1, 0)]}, levels))
    found = difference(first, second)
    assert found.questions == ["a", "b"]
    np.testing.assert_array_equal(found.accuracy, [[0.5, 0.0], [-1.0, np.nan]])


def test_epochs_count_from_the_first_step_that_sampled(write_run: WriteRun) -> None:
    levels = {"a": 1, "b": 1}
    hpt = grid_of(write_run("hpt", {"a": [(0, 0), (1, 0), (1, 1)], "b": [(1, 0), (1, 1), (0, 0)]}, levels))
    stages = {"a": [None, None, (1, 0), (0, 0)], "b": [None, None, (0, 0), (1, 1)]}
    after_sft = grid_of(write_run("stages", stages, levels))
    found = difference(hpt, after_sft)
    assert dict(zip(found.questions, found.accuracy.tolist(), strict=True)) == {"a": [-0.5, 0.5], "b": [0.5, 0.0]}
    assert found.steps.tolist() == [[1, 2], [1, 2]]
    assert difference(after_sft, hpt).steps.tolist() == [[3, 4], [3, 4]]
    # Figure 3 shows the run as it was.
    assert after_sft.epochs == 4


def test_a_stage_that_ends_within_an_epoch_shifts_each_question_by_its_own(tmp_path: Path) -> None:
    for step, (question, rewards) in enumerate(
        [("a", None), ("b", None), ("a", None), ("b", (1, 0)), ("b", (1, 1)), ("a", (0, 0))], start=1
    ):
        write_rollouts(tmp_path, step, rollout_lines(question, 1, rewards))
    grid = grid_of(tmp_path).from_first_sampled()
    assert dict(zip(grid.questions, grid.steps.tolist(), strict=True)) == {"a": [6, 0], "b": [4, 5]}
    np.testing.assert_array_equal(grid.take([grid.questions.index("a")]).accuracy, [[0.0, np.nan]])


def test_where_nothing_was_sampled_the_grid_stays(write_run: WriteRun) -> None:
    grid = grid_of(write_run("sft", {"a": [None, None]}, {"a": 1}))
    assert grid.from_first_sampled() is grid


def test_a_question_met_twice_in_one_step_counts_twice(tmp_path: Path) -> None:
    twice = [*rollout_lines("q", 2, (1, 0)), *rollout_lines("q", 2, (0, 0)), *rollout_lines("q", 2, None)]
    write_rollouts(tmp_path, 1, twice)
    found = list(questions(tmp_path / "rollouts" / "000001.jsonl"))
    assert [(each.id, each.solved, each.accuracy, len(each.lines)) for each in found] == [
        ("q", 1, 0.5, 2), ("q", 0, 0.0, 3), ("q", 0, None, 1),
    ]  # fmt: skip


def test_files_from_before_levels_and_lines_cut_off(tmp_path: Path) -> None:
    lines = rollout_lines("old", None, (1, 0))
    for line in lines:
        del line["level"], line["pieces"], line["logprobs"]
    write_rollouts(tmp_path, 3, lines)
    path = tmp_path / "rollouts" / "000003.jsonl"
    path.write_text(path.read_text() + '{"id": "old", "sam', encoding="utf-8")
    (tmp_path / "rollouts" / "000004.partial").write_text("{", encoding="utf-8")
    assert list(rollouts_files(tmp_path)) == [3]
    (only,) = questions(path)
    assert (only.level, only.solved, len(only.lines)) == (None, 1, 2)
    assert grid_of(tmp_path).by_level() == {None: [0]}


def test_no_rollouts_at_all_is_an_empty_grid(tmp_path: Path) -> None:
    assert grid_of(tmp_path).accuracy.shape == (0, 0)


def test_thinning_keeps_every_level_in_proportion() -> None:
    levels: list[int | None] = [1] * 60 + [2] * 40
    grid = Grid([str(row) for row in range(100)], levels, np.zeros((100, 2)), np.ones((100, 2), dtype=np.int64))
    assert {level: len(rows) for level, rows in thinned(grid, 10).by_level().items()} == {1: 6, 2: 4}
    assert thinned(grid, 100) is grid


def test_spread() -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(5, 1) == [2]
    assert spread(0, 3) == []
