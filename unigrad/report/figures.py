"""The paper's figures, drawn from runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from unigrad.report.evaluations import Evaluation
from unigrad.report.grid import Grid, thinned
from unigrad.report.panels import WIDTH, draw_curve, draw_line, explained, finish, legend, means, panels_of, window
from unigrad.report.runs import Run, Series, gate_threshold
from unigrad.runs.metrics import Metric, reward_metric

INK = "#010203"
"""The colour of text and axes, which the page replaces by its own; nothing else is drawn in it."""
STYLE: dict[Any, Any] = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "legend.labelcolor": INK,
    "axes.facecolor": "none",
    "font.size": 10,
    # Text stays text: to be found, read aloud, and set in the page's colour. Verdana has DejaVu's widths.
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    # A folder's name may hold a dollar sign.
    "text.parse_math": False,
}
MOST_ROWS = 600
"""Questions of a grid; more would be thinner than a line."""
OFFLINE_ROWS = "demonstrations among the rows that train"
NOT_SAMPLED = "#b8b8b8"
SOLVED = LinearSegmentedColormap.from_list("solved", ["#ffffff", "#9ecae1", "#08519c"])
BETTER = LinearSegmentedColormap.from_list("better", ["#08519c", "#9ecae1", "#ffffff", "#fcae91", "#a50f15"])


@dataclass(frozen=True)
class Drawn:
    """A figure under the paper's number. name: of its files, fig3 or fig3-2. note: what its lines and colours are.

    grid: what is drawn in the panels, level by level, where it is a grid.
    """

    name: str
    title: str
    note: str
    figure: Figure
    grid: Grid | None = None

    @property
    def number(self) -> str:
        """The paper's; empty where it is none of the paper's figures."""
        return self.name.removeprefix("fig") if self.name.startswith("fig") else ""


def accuracy_grid(grid: Grid, label: str, name: str) -> Drawn:
    """Figure 3 of one run."""
    shown = thinned(grid, MOST_ROWS)
    note = (
        f"Rows: {_rows(shown, grid)}, by level and then by accuracy; columns: epochs. "
        "White: no rollout solved; dark blue: all; grey: not sampled."
    )
    figure = _grid_figure(shown, SOLVED, 0.0, "solved share of the rollouts")
    return Drawn(name, f"Rollout accuracy of each question over the epochs: {label}", note, figure, shown)


def difference_grid(grid: Grid, first: str, second: str, name: str) -> Drawn:
    """Figure 4 of two runs."""
    shown = thinned(grid, MOST_ROWS)
    known = grid.accuracy[~np.isnan(grid.accuracy)]
    mean = float(known.mean()) if known.size else 0.0
    note = (
        f"Red: {first} solves more; blue: {second} does; white: no difference; grey: not sampled by both. "
        f"Rows: {_rows(shown, grid)}, by level and then by accuracy; columns: epochs, from the "
        f"first with rollouts. "
        f"Mean difference {100 * mean:+.1f} points."
    )
    figure = _grid_figure(shown, BETTER, -1.0, "difference of the solved shares")
    return Drawn(name, f"Rollout accuracy: {first} − {second}", note, figure, shown)


def _rows(shown: Grid, grid: Grid) -> str:
    count = f"{len(grid.questions)} questions"
    left_out = len(grid.questions) - len(shown.questions)
    return f"{len(shown.questions)} of {count}, evenly chosen" if left_out else count


def _grid_figure(grid: Grid, colours: Colormap, least: float, label: str) -> Figure:
    levels = grid.by_level()
    colours = colours.with_extremes(bad=NOT_SAMPLED)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        panels = figure.subplots(1, len(levels), squeeze=False)[0]
        for axes, (level, rows) in zip(panels, levels.items(), strict=True):
            image = axes.imshow(
                grid.accuracy[rows], cmap=colours, vmin=least, vmax=1.0, aspect="auto", interpolation="nearest",
                extent=(0.5, grid.epochs + 0.5, len(rows), 0),
            )  # fmt: skip
            axes.set_title("questions of unknown level" if level is None else f"level {level}", loc="left", fontsize=10)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[0].set_ylabel("question")
        bar = figure.colorbar(image, ax=list(panels), label=label, fraction=0.025, pad=0.01)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def pass_curves(evaluations: Sequence[Evaluation]) -> Drawn | None:
    """Figure 2; None where no evaluation has several samples of each problem."""
    titles = {
        name: part["title"] for each in evaluations for name, part in each.benchmarks.items() if "pass_at_k" in part
    }
    if not titles:
        return None
    with rc_context(STYLE):
        figure, panels = panels_of(len(titles), 2.8)
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            for index, evaluation in enumerate(evaluations):
                if curve := evaluation.pass_at_k(name):
                    values, lower, upper = zip(*curve.values(), strict=True)
                    draw_curve(axes, list(curve), values, lower, upper, evaluation.label, index)
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xlabel("k")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            finish(axes, is_share=True)
        legend(figure, panels)
    note = "Shares of the problems that k samples solve, unbiased; bands: 95% intervals from resampling the problems."
    return Drawn("fig2", "pass@k", note, figure)


def training_reward(series: Sequence[Series]) -> Drawn | None:
    """The mean reward of the rollouts and, where it is a sum, that of each of its parts; None where nothing sampled."""
    names = dict.fromkeys(name for each in series for run in each.runs.values() for name in run.rewards)
    curves = {
        "mean reward of the rollouts": _metric(series, Metric.REWARD_MEAN),
        **{f"of {name}, before its weight": _metric(series, reward_metric(name)) for name in names},
    }
    return _lines("reward", "Training reward over the steps", series, curves, ())


def validation(series: Sequence[Series]) -> Drawn | None:
    """Figure 5, by benchmark, or by level where there is one set alone; None where no run was evaluated."""
    runs = [run for each in series for run in each.runs.values()]
    sets = dict.fromkeys(name for run in runs for found in run.evaluations_by_set.values() for name in found)
    if len(sets) > 1:
        overall, parts = "mean over the held-out sets", {name: _set_accuracy(name) for name in sets}
    else:
        levels = sorted({level for run in runs for scores in run.evaluations.values() for level in scores.by_level})
        overall, parts = "all held-out problems", {f"level {level}": _level_accuracy(level) for level in levels}
    panels: dict[str, Callable[[Run], dict[int, float]]] = {overall: _accuracy, **parts}
    curves = {
        title: {each.label: [curve(run) for run in each.runs.values()] for each in series}
        for title, curve in panels.items()
    }
    # Evaluations are few and each is over all held-out problems: they stand as they are.
    return _lines("fig5", "Validation accuracy over the steps", series, curves, curves.keys(), averaged=False)


def _accuracy(run: Run) -> dict[int, float]:
    return {step: scores.accuracy for step, scores in run.evaluations.items()}


def _set_accuracy(name: str) -> Callable[[Run], dict[int, float]]:
    return lambda run: {step: sets[name].accuracy for step, sets in run.evaluations_by_set.items() if name in sets}


def _level_accuracy(level: int) -> Callable[[Run], dict[int, float]]:
    return lambda run: {
        step: scores.by_level[level] for step, scores in run.evaluations.items() if level in scores.by_level
    }


def offline_ratio(series: Sequence[Series]) -> Drawn | None:
    """Figure 6."""
    curves = {
        "questions trained on their demonstration": _metric(series, Metric.OFFLINE_RATIO),
        OFFLINE_ROWS: _metric(series, Metric.OFFLINE_ROWS),
    }
    # Runs of before the rows were counted have the questions alone.
    curves = {panel: lines for panel, lines in curves.items() if _has_points(lines)}
    return _lines("fig6", "Offline ratio over the steps", series, curves, curves.keys())


def dynamics(series: Sequence[Series]) -> Drawn | None:
    """Figure 7."""
    curves = {
        "token entropy, nats": _metric(series, Metric.ENTROPY),
        "response length, tokens": _metric(series, Metric.LENGTH_MEAN),
    }
    return _lines("fig7", "Token entropy and response length over the steps", series, curves, ())


def gates(series: Sequence[Series]) -> Drawn | None:
    """Figure 8; None with fewer than two values of γ."""
    by_gate = {gamma: each for each in series if (gamma := gate_threshold(each.first)) is not None}
    if len(by_gate) < 2:
        return None
    named = [Series(f"γ = {gamma:g}", by_gate[gamma].runs) for gamma in sorted(by_gate)]
    curves = {
        "training reward": _metric(named, Metric.REWARD_MEAN),
        "offline ratio": _metric(named, Metric.OFFLINE_RATIO),
        OFFLINE_ROWS: _metric(named, Metric.OFFLINE_ROWS),
    }
    curves = {panel: lines for panel, lines in curves.items() if panel != OFFLINE_ROWS or _has_points(lines)}
    return _lines(
        "fig8", "Training reward and offline ratio for the gates γ", named, curves, curves.keys() - {"training reward"}
    )


def _has_points(lines: Mapping[str, Sequence[Mapping[int, float]]]) -> bool:
    return any(curve for each in lines.values() for curve in each)


def _metric(series: Iterable[Series], metric: str) -> dict[str, list[dict[int, float]]]:
    """Each series' curves, a seed each, in means of several steps where there are many."""
    found = {}
    for each in series:
        per_point = window(max(run.steps for run in each.runs.values()))
        found[each.label] = [means(run.curve(metric), per_point) for run in each.runs.values()]
    return found


def _lines(
    name: str,
    title: str,
    series: Sequence[Series],
    curves: Mapping[str, Mapping[str, Sequence[Mapping[int, float]]]],
    shares: Collection[str],
    averaged: bool = True,
) -> Drawn | None:
    """A panel for each entry of `curves`, a line in it for each series; None where there is not a single point."""
    if not any(map(_has_points, curves.values())):
        return None
    with rc_context(STYLE):
        figure, panels = panels_of(len(curves), 2.6, alike=len(shares) == len(curves) > 1)
        for axes, (panel, lines) in zip(panels, curves.items(), strict=True):
            for index, (label, each) in enumerate(lines.items()):
                draw_line(axes, each, label, index)
            axes.set_title(panel, loc="left", fontsize=10)
            axes.set_xlabel("step")
        # After all the lines: a limit set on one of the panels that share their scale stops it from growing.
        for axes, panel in zip(panels, curves, strict=True):
            finish(axes, is_share=panel in shares)
        legend(figure, panels)
    return Drawn(name, title, _note(series, averaged), figure)


def _note(series: Sequence[Series], averaged: bool) -> str:
    """What the lines and bands are. averaged: whether a point may be the mean of several steps."""
    seeds = {len(each.runs) for each in series}
    steps = max(window(run.steps) for each in series for run in each.runs.values()) if averaged else 1
    if len(seeds) == 1:
        return f"Lines: {explained(seeds.pop(), steps)}."
    said = "; ".join(f"{each.label}: {explained(len(each.runs), 1)}" for each in series)
    return f"{said}." if steps == 1 else f"{said}. Points are means of up to {steps} steps."
