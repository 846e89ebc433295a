"""The tables, from numbers written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from written_runs import metrics, write_config, write_metrics

from unigrad.report.runs import find_runs, gather
from unigrad.report.tables import Table, held_out_tables

FINAL = {("hpt", 0): 0.6, ("hpt", 1): 0.7, ("off_on", 0): 0.5, ("off_on", 1): 0.4, ("hpt_gate1", 0): 0.7}


def tables(folder: Path, **keys: Any) -> list[Table]:
    for (method, seed), accuracy in FINAL.items():
        run = folder / f"{method}-{seed}"
        write_config(run, method__name=method, train__seed=seed, **keys)
        write_metrics(run, [metrics(0, accuracy=0.2), metrics(1, accuracy=0.9), metrics(2, accuracy=accuracy)])
    return held_out_tables(gather(find_runs([folder / f"{method}-{seed}" for method, seed in FINAL])))


def test_the_tables(tmp_path: Path) -> None:
    main, paradigms, gates = tables(tmp_path)
    assert main.headings == ["method", "all", "level 3", "level 5", "vs hpt", "steps"]
    # Half widths: 12.706 times half the gap; the differences are −10 and −30 points.
    assert main.rows == [
        ["before training", "20.0 ± 0.0", "20.0 ± 0.0", "10.0 ± 0.0", "", "0"],
        ["hpt", "65.0 ± 63.5", "65.0 ± 63.5", "32.5 ± 31.8", "—", "2 (unfinished), 2 (unfinished)"],
        ["off_on", "45.0 ± 63.5", "45.0 ± 63.5", "22.5 ± 31.8", "−20.0 ± 127.1", "2 (unfinished), 2 (unfinished)"],
        ["hpt_gate1", "70.0", "70.0", "35.0", "+10.0", "2 (unfinished)"],
    ]
    assert main.best == {(3, 1), (3, 2), (3, 3)}
    assert "hpt: 2 seeds; off_on: 2 seeds; hpt_gate1: 1 seed." in main.note
    assert [row[0] for row in paradigms.rows] == ["before training", "OFF/ON", "SFT/ON (hpt)"]
    assert [row[0] for row in gates.rows] == ["before training", "γ = 1", "γ = 0"]


def test_a_run_without_an_evaluation_after_its_start_is_left_out(tmp_path: Path) -> None:
    write_config(tmp_path / "run", method__name="hpt")
    write_metrics(tmp_path / "run", [metrics(0, accuracy=0.2), metrics(1)])
    assert held_out_tables(gather(find_runs([tmp_path / "run"]))) == []
