"""An evaluation's numbers as tables in the paper's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unigrad.evaluate.exclusive import EXPLAINED, Exclusive, ExclusiveSolves
from unigrad.evaluate.results import table_columns
from unigrad.live import text_table
from unigrad.stats import CONFIDENCE

_QUIET_REASONS = ("right", "wrong")


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print what results.json holds."""
    console.print(_accuracies(results))
    benchmarks = results["benchmarks"].values()
    if any(benchmark["by_level"] for benchmark in benchmarks):
        console.print(_levels(results))
    if any("pass_at_k" in benchmark for benchmark in benchmarks):
        console.print(_pass_curves(results))
    for line in _remarks(results):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)


def show_exclusive(found: Mapping[str, ExclusiveSolves], first: str, second: Path, console: Console) -> None:
    """Print Table 4."""
    for solves in found.values():
        parts = solves.parts
        table = text_table(["", *parts], f"{solves.title}: solved by {first} alone (+), by {second} alone (−)")
        rows: dict[str, Callable[[Exclusive], str]] = {
            "N": lambda each: str(each.problems),
            "solved": lambda each: f"+{each.first}/−{each.second}",
            "p": lambda each: f"{each.p_value:.2g}",
        }
        for name, cell in rows.items():
            table.add_row(name, *map(cell, parts.values()))
        console.print(table)
    console.print(EXPLAINED, markup=False, soft_wrap=not console.is_terminal)


def _accuracies(results: Mapping[str, Any]) -> Table:
    columns = [(title, part) for _, title, part in table_columns(results)]
    table = text_table(["model", *(title for title, _ in columns)], "accuracy, %")
    table.add_row(results["label"], *(_percent(part["accuracy"]) for _, part in columns))
    table.add_row("95% interval", *(_interval(part["interval"]) for _, part in columns))
    table.add_row("problems", *(str(part.get("problems", "")) for _, part in columns))
    table.add_row("avg@", *(str(part.get("samples", "")) for _, part in columns))
    table.add_row("truncated, %", *(_percent(part.get("truncated")) for _, part in columns))
    return table


def _levels(results: Mapping[str, Any]) -> Table:
    benchmarks = [benchmark for benchmark in results["benchmarks"].values() if benchmark["by_level"]]
    levels = sorted({level for benchmark in benchmarks for level in benchmark["by_level"]}, key=int)
    table = text_table(["", *(f"level {level}" for level in levels)], "accuracy by level, % (problems)")
    for benchmark in benchmarks:
        parts = [benchmark["by_level"].get(level) for level in levels]
        table.add_row(
            benchmark["title"],
            *(f"{_percent(part['accuracy'])} ({part['problems']})" if part else "" for part in parts),
        )
    return table


def _pass_curves(results: Mapping[str, Any]) -> Table:
    benchmarks = [benchmark for benchmark in results["benchmarks"].values() if "pass_at_k" in benchmark]
    ks = max((benchmark["pass_at_k"] for benchmark in benchmarks), key=len)
    table = text_table(["k", *ks], "pass@k, %")
    for benchmark in benchmarks:
        curve = benchmark["pass_at_k"]
        table.add_row(benchmark["title"], *(_percent(curve[k]["value"]) if k in curve else "" for k in ks))
    return table


def _remarks(results: Mapping[str, Any]) -> Iterator[str]:
    for benchmark in results["benchmarks"].values():
        total = sum(benchmark["reasons"].values())
        others = [f"{count / total:.1%} {reason}" for reason, count in benchmark["reasons"].items()
                  if reason not in _QUIET_REASONS]  # fmt: skip
        if others:
            yield f"{benchmark['title']}: {', '.join(others)} of {total} completions"
        if benchmark["accuracy"] in (0, 1):
            # Clopper and Pearson's, which for none or all of n has a closed form.
            beyond = 1 - ((1 - CONFIDENCE) / 2) ** (1 / benchmark["problems"])
            yield (
                f"{benchmark['title']}: resampling none or all of {benchmark['problems']} shows no spread; the exact "
                f"interval is {_interval((0, beyond) if benchmark['accuracy'] == 0 else (1 - beyond, 1))}"
            )
    protocol, sampled = results["settings"]["protocol"], results["settings"]["sampled_with"]
    length, positions = protocol["max_completion_length"], sampled["positions"]
    limit = f"up to {length} tokens"
    if positions is not None and positions <= length:
        limit += f", or what the model's {positions} positions leave"
    prompts = ", ".join(dict.fromkeys(sampled["prompt_templates"].values()))
    if protocol.get("no_box", "last_number") != "last_number":
        prompts += f"; no box: {protocol['no_box']}"
    if protocol.get("stop"):
        prompts += f"; stop: {', '.join(map(repr, protocol['stop']))}"
    yield (
        f"temperature {protocol['temperature']}, top-p {protocol['top_p']}, {limit}, seed {protocol['seed']}; "
        f"prompts: {prompts}; intervals: bootstrap over problems"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"
