"""From a recipe, methods and seeds to a table: train what is not there yet, measure, write it all down."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from unigrad.compare.devices import gpus
from unigrad.compare.plan import Comparison, plan
from unigrad.compare.runs import check_free, measure_all, train
from unigrad.compare.sets import named_methods
from unigrad.errors import ConfigError, one_line
from unigrad.files import check_folder, locked, replace_json, replace_text
from unigrad.hybrid.recipe_methods import check_methods
from unigrad.live import table_console
from unigrad.machine import cores, threads_of_each
from unigrad.report.needs import check_installed
from unigrad.report.runs import COMPARISON_FILE
from unigrad.runs.metrics import RunMetrics
from unigrad.versions import environment

TABLE_FILE, CURVES_FILE = "comparison.md", "curves.png"
TABLE_WIDTH = 80
"""Letters a line, where the output is no terminal that says its own."""
RESULTS = (COMPARISON_FILE, TABLE_FILE, CURVES_FILE)


def compare(
    recipe: str,
    methods: str,
    seeds: range,
    out: Path,
    jobs: int | None = None,
    overrides: Mapping[str, str] | None = None,
) -> int:
    """Compare `methods` (names and sets of them, with commas) on `recipe`. Returns the exit code (see `cli.main`).

    Raises ConfigError on anything that is wrong with the input, before a run is started.
    """
    check_installed("compare")
    from unigrad.hybrid import METHODS

    check_folder(out, f"--out {out}")
    check_methods(recipe)
    for name in RESULTS:
        if (out / name).is_dir():
            raise ConfigError(f"{out / name} is a folder, and the place of a file; give another folder with --out")
    comparison = plan(recipe, named_methods(methods, METHODS), seeds, out, overrides)
    check_free(comparison.runs)
    _check_methods(comparison)
    console = table_console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    waiting = [run for run in comparison.runs if not run.is_finished]
    spread = gpus(waiting[0].config.model.device) if waiting else ()
    jobs = jobs or len(spread) or cores()
    # A run's threads follow from --jobs alone, not from how many are left: on them hang its last bits.
    threads = threads_of_each(jobs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, f"another process compares into {out}; wait for its end or give another folder with --out"):
            outcome = train(comparison.runs, jobs, threads, spread, say)
            if outcome.stopped_by is not None:
                again = comparison.command("--out", str(out), "--jobs", str(jobs))
                say(f"stopped; the same command goes on: {again}")
                return 128 + outcome.stopped_by
            _report(comparison, measure_all(comparison.runs), out, console)
    except OSError as error:
        say(f"unigrad: error: {one_line(error)}; the same command goes on")
        return 1
    return 1 if outcome.failed else 0


def _check_methods(comparison: Comparison) -> None:
    """Raises ConfigError where a method that is yet to be trained does not go with the options given."""
    first = {run.method: run.config for run in reversed(comparison.runs) if not run.is_finished}
    if not first:
        return
    # Only now: it takes seconds, which a comparison that is done need not wait for.
    from unigrad.train.objectives import objectives

    for method, config in first.items():
        try:
            objectives(config)
        except ValueError as error:
            raise ConfigError(f"{method}: {error}") from error


def _report(
    comparison: Comparison, measured: Mapping[str, Mapping[int, RunMetrics]], out: Path, console: Console
) -> None:
    # Only now: drawing costs a second, and every error of the input is found before it.
    from unigrad.compare.curves import draw
    from unigrad.compare.table import as_markdown, as_rich, caption, statistics

    found = statistics(comparison, measured)
    for table in as_rich(found, console.width if console.is_terminal else TABLE_WIDTH):
        console.print(table)
    for line in caption(found):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    data = {**_settings(comparison), "runs": _runs(comparison, measured), "statistics": found.as_data()}
    replace_json(out / COMPARISON_FILE, data)
    versions = environment()
    made_by = f"unigrad {versions['unigrad']}, torch {versions['torch']}, {versions['platform']}."
    lines = [
        f"# Comparison: {comparison.recipe}", "", f"    {comparison.command()}", "", as_markdown(found), "",
        *(f"- {line}" for line in caption(found)), "", made_by, "", f"![curves]({CURVES_FILE})", "",
    ]  # fmt: skip
    replace_text(out / TABLE_FILE, "\n".join(lines))
    by_tokens = all(run.config.train.max_tokens for run in comparison.runs)
    draw(measured, out / CURVES_FILE, by_tokens=by_tokens)
    where = " ".join(shlex.quote(str(out / name)) for name in RESULTS)
    console.print(f"written: {where}", markup=False, soft_wrap=True)


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What repeats the comparison: `configuration` holds the keys that all runs share, `changes` the others by run."""
    flats = {f"{run.method}/seed-{run.seed}": run.config.flat() for run in comparison.runs}
    first = next(iter(flats.values()))
    shared = {key: value for key, value in first.items() if all(flat[key] == value for flat in flats.values())}
    return {
        "command": comparison.command(),
        "recipe": comparison.recipe,
        "methods": list(comparison.methods),
        "seeds": list(comparison.seeds),
        "overrides": dict(comparison.overrides),
        "versions": environment(),
        "configuration": shared,
        "changes": {
            name: {key: value for key, value in flat.items() if key not in shared and key != "output_dir"}
            for name, flat in flats.items()
        },
    }


def _runs(comparison: Comparison, measured: Mapping[str, Mapping[int, RunMetrics]]) -> list[dict[str, Any]]:
    rows = []
    for run in comparison.runs:
        found = measured[run.method].get(run.seed)
        row: dict[str, Any] = {"method": run.method, "seed": run.seed, "missing": found is None}
        if found is not None:
            row |= {
                "accuracy": found.accuracy,
                "by_level": found.final.by_level,
                "base": found.base and {"accuracy": found.base.accuracy, "by_level": found.base.by_level},
                "steps": found.steps,
                "tokens_generated": found.tokens_generated,
                "tokens_trained": found.tokens_trained,
                "minutes": found.minutes,
                "offline_ratio": found.offline_ratio,
            }
        rows.append(row)
    return rows
