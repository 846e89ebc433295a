"""The paper's tables: from evaluations on its benchmarks, and from the last held-out evaluations of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unigrad.errors import ConfigError
from unigrad.evaluate import Exclusive, exclusive_solves
from unigrad.evaluate.exclusive import EXPLAINED
from unigrad.hybrid.methods import METHODS
from unigrad.report.evaluations import Evaluation
from unigrad.report.runs import Run, Series, gate_threshold
from unigrad.runs.metrics import Accuracy
from unigrad.stats import CONFIDENCE
from unigrad.stats.accuracies import accuracies, accuracies_against
from unigrad.stats.intervals import NOTHING, Interval, percent

REFERENCE = "hpt"
"""What the others are compared with, where it is among them."""


@dataclass(frozen=True)
class Table:
    """The first column holds the rows' names; of the others, the largest number of each is marked where `best`."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    note: str
    best: frozenset[tuple[int, int]] = frozenset()
    """The cells (row, column) that are the best of their columns."""
    hints: tuple[str, ...] = ()
    """What the pointer is shown over each row's name; empty: over none."""


def benchmark_table(evaluations: Sequence[Evaluation]) -> Table | None:
    """Tables 2, 3, 5 and 6, whichever the models given make it; None without evaluations."""
    if not evaluations:
        return None
    columns: dict[str, str] = {}
    for evaluation in evaluations:
        for part in evaluation.columns():
            columns.setdefault(part.key, part.title)
    found = [{part.key: part for part in evaluation.columns()} for evaluation in evaluations]
    rows, best = [], set()
    for evaluation, parts in zip(evaluations, found, strict=True):
        rows.append([evaluation.label, *(parts[key].cell if key in parts else NOTHING for key in columns)])
    if len(evaluations) > 1:
        for column, key in enumerate(columns, start=1):
            largest = max(parts[key].accuracy for parts in found if key in parts)
            best |= {
                (row, column) for row, parts in enumerate(found) if key in parts and parts[key].accuracy == largest
            }
    note = (
        "Accuracy in percent (avg@k, with as many samples as each evaluation says), and its 95% interval from "
        "resampling the problems. Avg: the mean over a suite's benchmarks."
    )
    return Table("Tables 2 and 3: benchmarks", ["model", *columns.values()], rows, note, frozenset(best))


def exclusive_tables(evaluations: Sequence[Evaluation]) -> tuple[list[Table], list[str]]:
    """Table 4 for the first evaluation against each other, on every benchmark that both have; and what could not be
    compared."""
    found, problems = [], []
    for other in evaluations[1:]:
        first = evaluations[0]
        try:
            benchmarks = exclusive_solves(first.folder, other.folder)
        except ConfigError as error:
            problems.append(f"Table 4: {error}.")
            continue
        for solves in benchmarks.values():
            parts = solves.parts
            rows = [
                ["absolute", *(f"+{each.first} / −{each.second}" for each in parts.values())],
                ["percentage", *map(_shares, parts.values())],
                ["p", *(f"{each.p_value:.2g}" for each in parts.values())],
            ]
            headings = [solves.title, *(f"{name} (N = {each.problems})" for name, each in parts.items())]
            note = f"+: problems that {first.label} solves and {other.label} does not; −: the reverse. {EXPLAINED}"
            title = f"Table 4: exclusive solves, {first.label} against {other.label}"
            found.append(Table(title, headings, rows, note))
    return found, problems


def _shares(solves: Exclusive) -> str:
    return f"+{solves.first / solves.problems:.1%} / −{solves.second / solves.problems:.1%}"


def held_out_tables(series: Sequence[Series]) -> list[Table]:
    """Tables 2 and 3 over all series, and 5 and 6 where their methods are there. Runs without an evaluation are out."""
    evaluated = [each for each in series if _finals(each)]
    if not evaluated:
        return []
    every = {each.label: each for each in evaluated}
    found = [_accuracies("Tables 2 and 3: the methods", every, "method")]
    by_method = {each.method: each for each in reversed(evaluated)}
    rows = {each.paradigm: each.name for each in METHODS.values() if each.paradigm}
    paradigms = {row: by_method[name] for row, name in reversed(rows.items()) if name in by_method}
    if len(paradigms) > 1:
        found.append(_accuracies("Table 5: what learns from the demonstrations", paradigms, "paradigm"))
    gates = {gamma: each for each in evaluated if (gamma := gate_threshold(each.first)) is not None}
    if len(gates) > 1:
        named = {f"γ = {gamma:g}": gates[gamma] for gamma in sorted(gates, reverse=True)}
        found.append(_accuracies("Table 6: the gate's threshold", named, "gate"))
    return found


def _finals(series: Series) -> dict[int, Accuracy]:
    """By seed, the last evaluation after training began."""
    finals = {}
    for seed, run in series.runs.items():
        step = max(run.evaluations, default=0)
        if step:
            finals[seed] = run.evaluations[step]
    return finals


def _accuracies(title: str, series: Mapping[str, Series], what: str) -> Table:
    finals = {label: _finals(each) for label, each in series.items()}
    scores = [each for seeds in finals.values() for each in seeds.values()]
    levels = sorted({level for each in scores for level in each.by_level})
    reference = next((label for label, each in series.items() if each.method == REFERENCE), next(iter(series)))
    compared = accuracies_against(finals, reference)
    best = frozenset(_best([found.cells(levels) for found, _ in compared.values()]))
    rows = [
        [
            label,
            *map(percent, found.cells(levels)),
            percent(difference, signed=True),
            ", ".join(_reached(series[label].runs[seed]) for seed in finals[label]),
        ]
        for label, (found, difference) in compared.items()
    ]
    hints = [series[label].settings for label in compared]
    # Before training all methods of a seed are the same policy, whichever run measured it.
    before = {
        run.seed: run.evaluations[0] for each in series.values() for run in each.runs.values() if 0 in run.evaluations
    }
    if before:
        hints.insert(0, "")
        rows.insert(0, ["before training", *map(percent, accuracies(list(before.values())).cells(levels)), "", "0"])
        best = frozenset((row + 1, column) for row, column in best)
    headings = [what, "all", *(f"level {level}" for level in levels), f"vs {reference}", "steps"]
    return Table(title, headings, rows, _note(finals, reference), best, tuple(hints))


def _best(rows: Sequence[Sequence[Interval | None]]) -> list[tuple[int, int]]:
    """The cells whose mean is their column's largest, counted with the column of names."""
    if len(rows) < 2:
        return []
    cells = []
    for column, found in enumerate(zip(*rows, strict=True), start=1):
        largest = max((each.mean for each in found if each), default=None)
        cells += [(row, column) for row, each in enumerate(found) if each and each.mean == largest]
    return cells


def _reached(run: Run) -> str:
    """The step of the last evaluation, and whether the run goes on after it."""
    return f"{max(run.evaluations)}{'' if run.is_finished else ' (unfinished)'}"


def _note(finals: Mapping[str, Mapping[int, Accuracy]], reference: str) -> str:
    counts = {len(seeds) for seeds in finals.values()}
    if counts == {1}:
        seeds = "One seed each: no interval, and a difference between single runs says nothing."
    else:
        seeds = (
            f"Mean over the seeds ± half the width of the {CONFIDENCE:.0%} interval of Student's t; "
            + "; ".join(f"{label}: {len(each)} seed{'s' * (len(each) > 1)}" for label, each in finals.items())
            + "."
        )
    return (
        f"Accuracy on the held-out problems at the last evaluation, in percent. {seeds} "
        f"vs {reference}: in points, paired by seed."
    )
