"""What a report holds: each figure and table that the data is there for, and for each other one what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from unigrad.report.answers import answers
from unigrad.report.evaluations import Evaluation
from unigrad.report.figures import (
    Drawn,
    accuracy_grid,
    difference_grid,
    dynamics,
    gates,
    offline_ratio,
    pass_curves,
    training_reward,
    validation,
)
from unigrad.report.grid import build, difference
from unigrad.report.runs import Run, Series
from unigrad.report.sample import Sample, sample
from unigrad.report.tables import Table, benchmark_table, exclusive_tables, held_out_tables
from unigrad.runs.folder import Example, read_examples, rollouts_files
from unigrad.runs.rollouts import Question, questions


@dataclass
class Contents:
    """grid_runs: for the figures that are grids, the run whose rollouts their cells open. missing: a sentence for each
    thing that is not there, and what would bring it. samples: by the name of their run. examples: likewise, of the
    training sets. settings: of each series and run whose name is a number, what it stands for."""

    runs: Table
    figures: list[Drawn] = field(default_factory=list)
    grid_runs: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


def assemble(series: Sequence[Series], evaluations: Sequence[Evaluation], budget: int) -> Contents:
    """Everything that these runs and evaluations give, with at most `budget` bytes of rollouts."""
    contents = Contents(_overview(series, evaluations), examples=_examples(series), settings=_settings(series))
    for drawn, lacking in (
        (training_reward(series), "The training reward: no run has sampled."),
        (validation(series), "Figure 5, validation accuracy: no run was evaluated (data.eval, train.eval_steps)."),
    ):
        _add(contents, drawn, lacking)
    _add(
        contents, pass_curves(evaluations), "Figure 2, pass@k: needs a `unigrad evaluate` of several samples a problem."
    )
    _add_grids(contents, series)
    for drawn, lacking in (
        (offline_ratio(series), "Figure 6, the offline ratio: no run has made a step."),
        (dynamics(series), "Figure 7, entropy and response length: no run has sampled."),
        (gates(series), "Figure 8, the gates: needs HPT under two values of γ (hpt, hpt_gate1, hpt_gate2)."),
    ):
        _add(contents, drawn, lacking)
    _add_tables(contents, series, evaluations)
    _add_samples(contents, series, evaluations, budget)
    return contents


def _add(contents: Contents, drawn: Drawn | None, lacking: str) -> None:
    if drawn is None:
        contents.missing.append(lacking)
    else:
        contents.figures.append(drawn)


def _add_grids(contents: Contents, series: Sequence[Series]) -> None:
    """Figure 3 of each series' first run, and Figure 4 of the first series against each other."""
    grids = {each.label: build(_met(each.first)) for each in series}
    again = [each for each in series if grids[each.label].epochs > 1]
    if not again:
        contents.missing.append(
            "Figure 3, each question's accuracy over the epochs: needs rollouts of the same question in two epochs "
            "or more; these end before their second (train.max_steps × train.questions_per_step), or have no rollouts."
        )
    for number, each in enumerate(again, start=1):
        name = f"fig3-{number}" if len(again) > 1 else "fig3"
        contents.figures.append(accuracy_grid(grids[each.label], each.name(each.first), name))
        contents.grid_runs[name] = each.name(each.first)
    if len(again) < 2:
        contents.missing.append("Figure 4, the difference of two runs: needs two that Figure 3 can show.")
    for number, each in enumerate(again[1:], start=1):
        found = difference(grids[again[0].label], grids[each.label])
        if not found.questions:
            contents.missing.append(f"Figure 4, {again[0].label} − {each.label}: they have no question in common.")
            continue
        name = f"fig4-{number}" if len(again) > 2 else "fig4"
        contents.figures.append(difference_grid(found, again[0].label, each.label, name))
        contents.grid_runs[name] = again[0].name(again[0].first)


def _met(run: Run) -> Iterator[tuple[int, Question]]:
    for step, path in rollouts_files(run.folder).items():
        for question in questions(path):
            yield step, question


def _add_tables(contents: Contents, series: Sequence[Series], evaluations: Sequence[Evaluation]) -> None:
    if (benchmarks := benchmark_table(evaluations)) is not None:
        contents.tables.append(benchmarks)
    else:
        contents.missing.append("Tables 2 and 3 on benchmarks: need the folders of `unigrad evaluate`.")
    if len(evaluations) < 2:
        contents.missing.append("Table 4, exclusive solves: needs the evaluations of two models on the same benchmark.")
    exclusive, problems = exclusive_tables(evaluations)
    contents.tables += [*exclusive, *held_out_tables(series)]
    contents.missing += problems


def _add_samples(contents: Contents, series: Sequence[Series], evaluations: Sequence[Evaluation], budget: int) -> None:
    """The rollouts of each run and the completions of each evaluation; what one does not need of its share is there for
    the next."""
    sources: dict[str, Callable[[int], Sample]] = {}
    for each in series:
        for run in each.runs.values():
            if files := rollouts_files(run.folder):
                sources[each.name(run)] = partial(sample, files, solved_at=float(run.keys["method.solved_at"]))
    if series and not sources:
        contents.missing.append("Rollouts: these runs have no rollout files.")
    sources |= {f"{each.label}, evaluation": partial(answers, each) for each in evaluations}
    for left, (name, source) in zip(range(len(sources), 0, -1), sources.items(), strict=True):
        chosen = source(budget // left)
        budget -= sum(len(step.payload) for step in chosen.steps)
        if chosen.steps:
            contents.samples[name] = chosen
        elif chosen.of:
            contents.missing.append(f"Rollouts of {name}: not one step fits into its share of --max-megabytes.")
        else:
            contents.missing.append(f"Completions of {name}: its folder has none.")


def _examples(series: Sequence[Series]) -> dict[str, tuple[Example, ...]]:
    """Of each series' first run, each once: runs of a comparison have the same data."""
    found: dict[str, tuple[Example, ...]] = {}
    for each in series:
        if (examples := read_examples(each.first.folder)) and examples not in found.values():
            found[each.label] = examples
    return found


def _settings(series: Sequence[Series]) -> dict[str, str]:
    return {
        name: each.settings
        for each in series
        if each.settings
        for name in (each.label, *map(each.name, each.runs.values()))
    }


def _overview(series: Sequence[Series], evaluations: Sequence[Evaluation]) -> Table:
    """Where everything comes from."""
    rows = [
        [each.name(run), str(run.folder), str(run.seed), f"{run.steps} of {run.keys['train.max_steps']}{_ending(run)}"]
        for each in series
        for run in each.runs.values()
    ]
    rows += [[each.label, str(each.folder), "", "evaluation"] for each in evaluations]
    hints = [each.settings for each in series for _ in each.runs]
    note = "\n".join(f"{each.label}: {each.settings}" for each in series if each.settings)
    return Table("Runs", ["name", "folder", "seed", "steps"], rows, note, hints=(*hints, *[""] * len(evaluations)))


def _ending(run: Run) -> str:
    return "" if run.is_finished else ", not finished"
