"""The comparison as a table: statistics of each method, and their rows for the terminal, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from unigrad.compare.plan import Comparison
from unigrad.live import text_table
from unigrad.report.tables import REFERENCE
from unigrad.runs.metrics import LAST_STEPS, RunMetrics
from unigrad.stats.accuracies import Accuracies, accuracies, accuracies_against
from unigrad.stats.intervals import NOTHING, Interval, percent

BASE = "base"


@dataclass(frozen=True, slots=True)
class MethodStatistics:
    """Over the seeds of one method; means are None where no run is there, the difference also for the reference."""

    accuracies: Accuracies
    difference: Interval | None
    tokens_generated: float | None
    tokens_trained: float | None
    steps: float | None
    minutes: float | None
    offline_ratio: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """base: before training. short_of_budget: methods with a run that ended at max_steps, before max_tokens."""

    comparison: Comparison
    reference: str
    base: Accuracies
    methods: dict[str, MethodStatistics]
    missing: tuple[str, ...]
    short_of_budget: tuple[str, ...]

    @property
    def levels(self) -> list[int]:
        return sorted({level for row in self._rows() for level in row.by_level})

    def _rows(self) -> list[Accuracies]:
        return [self.base, *(method.accuracies for method in self.methods.values())]

    def as_data(self) -> dict[str, Any]:
        """For JSON: the means, half widths and counts of everything in the table."""
        return {"base": asdict(self.base), "methods": {name: asdict(each) for name, each in self.methods.items()}}


def statistics(comparison: Comparison, measured: Mapping[str, Mapping[int, RunMetrics]]) -> Statistics:
    """What the measured runs, by method and seed, say of each method."""
    reference = REFERENCE if REFERENCE in comparison.methods else comparison.methods[0]
    finals = {method: {seed: run.final for seed, run in runs.items()} for method, runs in measured.items()}
    compared = accuracies_against(finals, reference)
    # Before training all methods are the same policy: the first that has a seed speaks for it.
    base = {seed: run.base for runs in reversed(list(measured.values())) for seed, run in runs.items() if run.base}
    methods = {
        method: MethodStatistics(
            *compared[method],
            tokens_generated=_mean(runs, lambda run: run.tokens_generated),
            tokens_trained=_mean(runs, lambda run: run.tokens_trained),
            steps=_mean(runs, lambda run: run.steps),
            minutes=_mean(runs, lambda run: run.minutes),
            offline_ratio=_mean(runs, lambda run: run.offline_ratio),
        )
        for method, runs in measured.items()
    }
    short = []
    for run in comparison.runs:
        budget, found = run.config.train.max_tokens, measured[run.method].get(run.seed)
        if budget and found and found.tokens < budget and run.method not in short:
            short.append(run.method)
    missing = tuple(run.name for run in comparison.runs if run.seed not in measured[run.method])
    return Statistics(comparison, reference, accuracies(list(base.values())), methods, missing, tuple(short))


def _mean(runs: Mapping[int, RunMetrics], number: Callable[[RunMetrics], float | None]) -> float | None:
    found = [value for run in runs.values() if (value := number(run)) is not None]
    return fmean(found) if found else None


def headings(found: Statistics) -> list[str]:
    levels = [f"level {level}" for level in found.levels]
    return [
        "method", "accuracy, %", *levels, f"vs {found.reference}",
        "generated, M", "trained, M", "steps", "minutes", "offline ratio",
    ]  # fmt: skip


def rows(found: Statistics) -> list[list[str]]:
    """One for the policy before training, one for each method in the order asked for."""
    total = len(found.comparison.seeds)

    def name(method: str, accuracy: Interval | None) -> str:
        count = accuracy.count if accuracy else 0
        return method if count == total else f"{method} ({count} of {total} seeds)"

    shown = [[name(BASE, found.base.accuracy), *map(percent, found.base.cells(found.levels)), *[""] * 6]]
    for method, each in found.methods.items():
        shown.append(
            [
                name(method, each.accuracies.accuracy),
                *map(percent, each.accuracies.cells(found.levels)),
                percent(each.difference, signed=True),
                _number(each.tokens_generated, 1e6, ".2f"),
                _number(each.tokens_trained, 1e6, ".2f"),
                _number(each.steps, 1, ".0f"),
                _number(each.minutes, 1, ".1f"),
                _number(each.offline_ratio, 1, ".2f"),
            ]
        )
    return shown


def _number(value: float | None, unit: float, form: str) -> str:
    return NOTHING if value is None else f"{value / unit:{form}}"


def caption(found: Statistics) -> list[str]:
    """What the table's numbers are, a sentence or two each."""
    comparison = found.comparison
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    if len(comparison.seeds) == 1:
        what = f"Held-out accuracy after training, of seed {seeds} alone: one seed gives no interval."
    else:
        what = (
            f"Held-out accuracy after training: mean over the seeds {seeds} ± half the width of its 95% interval "
            f"(Student's t over {len(comparison.seeds)} seeds, or as many as a row says)."
        )
    lines = [
        what,
        f"vs {found.reference}: the difference to it in points, paired by seed, with the interval of the differences.",
        _budget(found),
        "Tokens in millions and steps are means over the seeds; so are the minutes, the steps' own time on a machine "
        f"that the runs share; the offline ratio is of the last {LAST_STEPS} steps.",
    ]
    if found.missing:
        lines.append(f"Missing: {', '.join(found.missing)}.")
    return lines


def _budget(found: Statistics) -> str:
    configs = [run.config.train for run in found.comparison.runs]
    tokens, steps = configs[0].max_tokens, configs[0].max_steps
    if any(config.max_tokens != tokens or (tokens is None and config.max_steps != steps) for config in configs):
        return "Not at equal budgets: train.max_tokens or train.max_steps differs between the methods."
    if tokens is None:
        return f"Compared at equal steps (train.max_steps = {steps}), not at an equal number of tokens."
    line = f"Compared at an equal number of tokens, generated and trained together (train.max_tokens = {tokens:,})"
    if not found.short_of_budget:
        return f"{line}, not at equal steps."
    return f"{line}, but {', '.join(found.short_of_budget)} came to train.max_steps first."


def as_rich(found: Statistics, width: int) -> list[Table]:
    """The table; where it is wider than so many letters, as several with the same rows, each within them."""
    columns = [
        # A heading is as narrow as its numbers.
        [title if len(title) <= max(map(len, cells)) else title.replace(" ", "\n"), *cells]
        for title, *cells in zip(headings(found), *rows(found), strict=True)
    ]
    names, *numbers = columns
    tables = [[names]]
    for column in numbers:
        if len(tables[-1]) > 1 and _width([*tables[-1], column]) > width:
            tables.append([names])
        tables[-1].append(column)
    return [_filled(each) for each in tables]


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Letters that a table of these columns takes, each with a space at either side."""
    lines = (max(len(line) for cell in column for line in cell.split("\n")) for column in columns)
    return sum(2 + longest for longest in lines) + 1


def _filled(columns: Sequence[Sequence[str]]) -> Table:
    titles, *cells = zip(*columns, strict=True)
    table = text_table(titles)
    for row in cells:
        table.add_row(*row)
    return table


def as_markdown(found: Statistics) -> str:
    titles = headings(found)
    marks = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, marks, *rows(found)))
