"""What is in the figures that are lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from written_runs import metrics, write_config, write_metrics

from unigrad.report.figures import Drawn, dynamics, gates, offline_ratio, validation
from unigrad.report.runs import Series, find_runs, gather


def series(folder: Path) -> list[Series]:
    """Two seeds of HPT and one of its second gate; rewards of the latter may be negative."""
    for name, method, seed, reward in (("a", "hpt", 0, 0.25), ("b", "hpt", 1, 0.75), ("c", "hpt_gate2", 0, -0.5)):
        write_config(folder / name, method__name=method, train__seed=seed)
        lines = [metrics(0, accuracy=0.2), metrics(1, reward), metrics(2, reward, accuracy=0.8 if name == "c" else 0.4)]
        write_metrics(folder / name, lines)
    return gather(find_runs([folder / name for name in "abc"]))


def panels(drawn: Drawn | None) -> list[Axes]:
    assert drawn is not None
    return drawn.figure.axes


def points(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.get_lines()}


def test_every_point_of_every_panel_is_within_it(tmp_path: Path) -> None:
    found = series(tmp_path)
    for drawn in (validation(found), offline_ratio(found), dynamics(found), gates(found)):
        for axes in panels(drawn):
            low, high = axes.get_ylim()
            values = [y for line in points(axes).values() for _, y in line]
            assert len(values) >= 2
            assert low <= min(*values, 0.0)
            assert high >= max(values)


def test_validation_by_level_and_the_mean_over_seeds(tmp_path: Path) -> None:
    every, third, fifth = panels(validation(series(tmp_path)))
    assert points(every) == {"hpt": [(0, 0.2), (2, 0.4)], "hpt_gate2": [(0, 0.2), (2, 0.8)]}
    assert points(third) == points(every)
    assert points(fifth)["hpt_gate2"] == [(0, 0.1), (2, 0.4)]
    (ratio,) = panels(offline_ratio(series(tmp_path)))
    assert points(ratio)["hpt"] == [(1, 0.5), (2, 0.5)]


def test_validation_by_benchmark_where_there_are_several(tmp_path: Path) -> None:
    write_config(tmp_path / "run")
    lines = [{"step": 0, "eval/amc/accuracy": 0.1, "eval/amc/level_3": 0.1, "eval/math/accuracy": 0.3}]
    lines += [{"step": 4, "eval/amc/accuracy": 0.2}, {"step": 8, "eval/amc/accuracy": 0.4, "eval/math/accuracy": 0.8}]
    write_metrics(tmp_path / "run", lines)
    drawn = panels(validation(gather(find_runs([tmp_path / "run"]))))
    assert {axes.get_title(loc="left"): points(axes)["hpt"] for axes in drawn} == {
        "mean over the held-out sets": [(0, 0.2), (4, 0.2), (8, pytest.approx(0.6))],
        "amc": [(0, 0.1), (4, 0.2), (8, 0.4)],
        "math": [(0, 0.3), (8, 0.8)],
    }


def test_the_offline_ratio_by_rows_stands_beside_that_by_questions(tmp_path: Path) -> None:
    found = series(tmp_path)
    for each in found:
        for run in each.runs.values():
            path = run.folder / "metrics.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            write_metrics(run.folder, [line | {"gate/offline_rows": 0.125} if line["step"] else line for line in lines])
    found = gather(find_runs([tmp_path / name for name in "abc"]))
    _, rows = panels(offline_ratio(found))
    assert rows.get_title(loc="left") == "demonstrations among the rows that train"
    assert points(rows) == {label: [(1, 0.125), (2, 0.125)] for label in ("hpt", "hpt_gate2")}
    reward, _, rows = panels(gates(found))
    assert points(rows) == {"γ = 0": [(1, 0.125), (2, 0.125)], "γ = 2": [(1, 0.125), (2, 0.125)]}
    assert reward.get_ylim() != rows.get_ylim()


def test_the_gates_are_named_by_their_threshold(tmp_path: Path) -> None:
    reward, _ = panels(gates(series(tmp_path)))
    assert points(reward) == {"γ = 0": [(1, 0.5), (2, 0.5)], "γ = 2": [(1, -0.5), (2, -0.5)]}
    assert gates(series(tmp_path)[:1]) is None


def test_without_data_there_is_no_figure(tmp_path: Path) -> None:
    write_config(tmp_path / "run")
    found = gather(find_runs([tmp_path / "run"]))
    assert [draw(found) for draw in (validation, offline_ratio, dynamics, gates)] == [None] * 4
