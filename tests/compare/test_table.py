"""The table and the curves, from small metrics files written by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unigrad.compare.curves import _over_tokens, draw
from unigrad.compare.plan import Comparison, PlannedRun, plan
from unigrad.compare.runs import measure_all
from unigrad.compare.table import Statistics, as_markdown, as_rich, caption, headings, rows, statistics
from unigrad.runs.metrics import measure
from unigrad.stats.intervals import interval


def write(run: PlannedRun, base: float, final: float, generated: int | None = 1000) -> None:
    """A finished run of 12 steps; `generated` None: a method that never samples."""
    lines: list[dict[str, Any]] = [{"step": 0, "eval/mine/accuracy": base, "eval/mine/level_1": 2 * base}]
    for step in range(1, 13):
        line: dict[str, Any] = {
            "step": step,
            "gate/offline_ratio": 1.0 if step <= 2 else 0.25,
            "tokens/generated": generated or 0,
            "tokens/trained": 500,
            "time/step": 5.0,
        }
        if generated is not None:
            # A null is what a number that was not finite has become.
            line |= {"policy/entropy": None if step == 3 else 0.5, "response/length_mean": 40.0}
        lines.append(line)
    lines[6] |= {"eval/mine/accuracy": 0.9, "eval/mine/level_1": 0.9}
    lines[-1] |= {"eval/mine/accuracy": final, "eval/mine/level_1": 1.0}
    (run.folder / "final").mkdir(parents=True)
    (run.folder / "config.yaml").write_text(run.config.dump(), encoding="utf-8")
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


FINAL = {("hpt", 0): 0.75, ("hpt", 1): 0.70, ("hpt", 2): 0.80, ("sft", 0): 0.50, ("sft", 1): 0.60, ("sft", 2): 0.40}


def compared(
    out: Path, seeds: int = 3, left_out: tuple[str, int] | None = None, methods: tuple[str, ...] = ("hpt", "sft"),
    **overrides: str,
) -> tuple[Comparison, Statistics]:  # fmt: skip
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    comparison = plan("tiny", methods, range(seeds), out, keys)
    for run in comparison.runs:
        if (run.method, run.seed) != left_out:
            write(run, 0.2 + run.seed / 100, FINAL[run.method, run.seed], 1000 if run.method == "hpt" else None)
    return comparison, statistics(comparison, measure_all(comparison.runs))


def test_a_runs_numbers(tmp_path: Path) -> None:
    (run,) = plan("tiny", ("hpt",), range(1), tmp_path).runs
    assert measure(run.folder) is None
    write(run, 0.2, 0.75)
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 13, "eval/mi')  # a kill
    found = measure(run.folder)
    assert found is not None
    assert (found.accuracy, found.final.by_level, found.steps) == (0.75, {1: 1.0}, 12)
    assert found.base is not None
    assert (found.base.accuracy, found.base.by_level) == (0.2, {1: 0.4})
    assert (found.tokens_generated, found.tokens_trained, found.tokens) == (12_000, 6_000, 18_000)
    assert (found.minutes, found.offline_ratio) == (1.0, 0.25)
    assert found.curves["accuracy"] == {0: 0.2, 6: 0.9, 12: 0.75}
    assert found.curves["policy/entropy"] == {step: 0.5 for step in range(1, 13) if step != 3}


def test_the_table(tmp_path: Path) -> None:
    _, found = compared(tmp_path)
    half = interval([0.75, 0.70, 0.80]).half_width
    assert half is not None
    assert round(100 * half, 1) == 12.4  # t = 4.303, standard deviation 5 points, over √3
    assert headings(found) == [
        "method", "accuracy, %", "level 1", "vs hpt", "generated, M", "trained, M", "steps", "minutes", "offline ratio",
    ]  # fmt: skip
    assert rows(found) == [
        ["base", "21.0 ± 2.5", "42.0 ± 5.0", "", "", "", "", "", ""],
        ["hpt", "75.0 ± 12.4", "100.0 ± 0.0", "—", "0.01", "0.01", "12", "1.0", "0.25"],
        # The differences are −25, −10 and −40 points.
        ["sft", "50.0 ± 24.8", "100.0 ± 0.0", "−25.0 ± 37.3", "0.00", "0.01", "12", "1.0", "0.25"],
    ]
    lines = as_markdown(found).splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[3] == "| hpt | 75.0 ± 12.4 | 100.0 ± 0.0 | — | 0.01 | 0.01 | 12 | 1.0 | 0.25 |"
    text = caption(found)
    assert text[0].startswith("Held-out accuracy after training: mean over the seeds 0, 1, 2 ± half the width")
    assert text[2] == "Compared at equal steps (train.max_steps = 80), not at an equal number of tokens."
    assert found.missing == ()


def test_one_seed_has_means_alone_and_says_so(tmp_path: Path) -> None:
    _, found = compared(tmp_path, seeds=1)
    assert [row[1] for row in rows(found)] == ["20.0", "75.0", "50.0"]
    assert rows(found)[2][3] == "−25.0"
    assert caption(found)[0] == "Held-out accuracy after training, of seed 0 alone: one seed gives no interval."


def test_a_missing_run_is_marked_and_its_seed_leaves_the_difference(tmp_path: Path) -> None:
    _, found = compared(tmp_path, left_out=("hpt", 1))
    assert [row[0] for row in rows(found)] == ["base", "hpt (2 of 3 seeds)", "sft"]
    difference = found.methods["sft"].difference
    assert difference is not None
    assert (difference.mean, difference.count) == (pytest.approx(-0.325), 2)
    assert caption(found)[-1] == "Missing: hpt seed 1."


def test_nothing_at_all_is_still_a_table(tmp_path: Path) -> None:
    comparison = plan("tiny", ("hpt", "sft"), range(2), tmp_path)
    found = statistics(comparison, measure_all(comparison.runs))
    assert [row[1] for row in rows(found)] == ["—", "—", "—"]
    assert rows(found)[1][0] == "hpt (0 of 2 seeds)"
    draw(measure_all(comparison.runs), tmp_path / "curves.png")


def test_without_hpt_the_first_method_is_the_reference(tmp_path: Path) -> None:
    _, found = compared(tmp_path, methods=("sft",))
    assert found.reference == "sft"
    assert headings(found)[3] == "vs sft"
    assert rows(found)[1][3] == "—"


def test_the_caption_tells_the_budget(tmp_path: Path) -> None:
    _, found = compared(tmp_path / "equal", train__max_tokens="6000")
    assert caption(found)[2] == (
        "Compared at an equal number of tokens, generated and trained together (train.max_tokens = 6,000), "
        "not at equal steps."
    )
    _, found = compared(tmp_path / "short", train__max_tokens="9000")
    assert caption(found)[2].endswith("(train.max_tokens = 9,000), but sft came to train.max_steps first.")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {max_steps: 3}\nmethods:\n  sft: {train: {max_steps: 4}}\n", encoding="utf-8")
    comparison = plan(str(recipe), ("hpt", "sft"), range(1), tmp_path)
    text = caption(statistics(comparison, measure_all(comparison.runs)))
    assert text[2].startswith("Not at equal budgets: ")


def test_curves_are_drawn_for_few_seeds_and_for_many(tmp_path: Path) -> None:
    comparison, _ = compared(tmp_path)
    measured = measure_all(comparison.runs)
    draw(measured, tmp_path / "few.png")
    many = {"hpt": {seed: measured["hpt"][seed % 3] for seed in range(6)}, "sft": measured["sft"]}
    draw(many, tmp_path / "many.png")
    for name in ("few.png", "many.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_over_tokens_the_curves_stand_at_the_same_numbers_of_tokens(tmp_path: Path) -> None:
    """Steps of 1,500 tokens: evaluations at steps 0, 6 and 12 stand at 0, 9,000 and 18,000, a line between them."""
    comparison, _ = compared(tmp_path, train__max_tokens="18000")
    run = measure_all(comparison.runs)["hpt"][0]
    assert run.tokens_by_step == {step: 1500 * step for step in range(13)}
    (curve,) = _over_tokens([run.curves["accuracy"]], [run])
    assert (min(curve), max(curve)) == (0, 18_000)
    assert curve[4500] == pytest.approx((0.2 + 0.9) / 2, abs=1e-12)
    draw({"hpt": {0: run}}, tmp_path / "tokens.png", by_tokens=True)
    assert (tmp_path / "tokens.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    _, found = compared(tmp_path)
    for width, count in ((80, 2), (200, 1)):
        tables = as_rich(found, width)
        assert len(tables) == count
        console = Console(file=io.StringIO(), width=width)
        for table in tables:
            console.print(table)
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert all(len(line.rstrip()) <= width for line in printed.splitlines())
        for cells in rows(found):
            # No cell is folded, and each table names the rows.
            assert all(cell in printed for cell in cells)
            assert sum(line.startswith(f" {cells[0]} ") for line in printed.splitlines()) == count
