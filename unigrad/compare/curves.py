"""The course of training as small multiples: accuracy, offline ratio, entropy, response length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from unigrad.compare.intervals import interval
from unigrad.compare.measures import Measured

PANELS = {
    "accuracy": "held-out accuracy",
    "gate/offline_ratio": "offline ratio: questions trained on their demonstration",
    "policy/entropy": "entropy of the policy, nats",
    "response/length_mean": "response length, tokens",
}
SHARES = ("accuracy", "gate/offline_ratio")
# Okabe and Ito's, which the colour-blind tell apart, without the yellow that a white page swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":")
POINTS = 80
SEEDS_FOR_AN_INTERVAL = 5


def draw(measured: Mapping[str, Mapping[int, Measured]], path: Path, *, by_tokens: bool = False) -> None:
    """Write a PNG: a line for each method's mean over its seeds, and a band.

    The band is the 95% t-interval from five seeds on, and the smallest to the largest below, where that interval would
    fill the panel. A run of many steps is drawn in means of several steps each. by_tokens: over the tokens generated
    and trained so far, between the runs' own points by interpolation, instead of over steps.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2).flat
    steps = max((run.steps for runs in measured.values() for run in runs.values()), default=0)
    window = max(1, -(-steps // POINTS))
    for axes, (metric, title) in zip(panels, PANELS.items(), strict=True):
        for number, (method, runs) in enumerate(measured.items()):
            # Evaluations are few and each is over all held-out problems: they stand as they are.
            curves = [_means(run.curves[metric], 1 if metric == "accuracy" else window) for run in runs.values()]
            if by_tokens:
                curves = _over_tokens(curves, list(runs.values()))
            _line(axes, curves, method, number)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("tokens generated and trained" if by_tokens else "step")
        axes.set_ylim(bottom=0)
        if metric in SHARES:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    count = max((len(runs) for runs in measured.values()), default=0)
    figure.suptitle(_explained(count, window), fontsize=9)
    figure.savefig(path, dpi=120, format="png")


def _explained(seeds: int, window: int) -> str:
    if seeds >= SEEDS_FOR_AN_INTERVAL:
        what = f"mean of {seeds} seeds and 95% t-interval"
    else:
        what = f"mean of {seeds} seeds, from the smallest to the largest" if seeds > 1 else "one seed"
    return f"{what}; points are means of {window} steps" if window > 1 else what


def _means(curve: Mapping[int, float], window: int) -> dict[int, float]:
    """`curve` in means of `window` steps, each at the last of them."""
    groups: dict[int, dict[int, float]] = {}
    for step, value in curve.items():
        groups.setdefault(-(-step // window), {})[step] = value
    return {max(group): fmean(group.values()) for group in groups.values()}


def _over_tokens(curves: list[dict[int, float]], runs: Sequence[Measured]) -> list[dict[int, float]]:
    """The curves at the same numbers of tokens, as far as all of them reach."""
    pairs = [(curve, run.tokens_by_step) for curve, run in zip(curves, runs, strict=True) if curve]
    if not pairs:
        return []
    first = max(tokens[min(curve)] for curve, tokens in pairs)
    last = min(tokens[max(curve)] for curve, tokens in pairs)
    grid = [round(first + (last - first) * index / POINTS) for index in range(POINTS + 1)]
    return [
        dict(zip(grid, np.interp(grid, [tokens[step] for step in curve], list(curve.values())).tolist(), strict=True))
        for curve, tokens in pairs
    ]


def _line(axes: Axes, curves: list[dict[int, float]], method: str, number: int) -> None:
    steps = sorted({step for curve in curves for step in curve})
    if not steps:
        return
    columns = [[curve[step] for curve in curves if step in curve] for step in steps]
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    axes.plot(steps, [fmean(values) for values in columns], color=colour, linestyle=style, label=method)
    lower, upper = zip(*(_band(values) for values in columns), strict=True)
    axes.fill_between(steps, lower, upper, color=colour, alpha=0.15, linewidth=0)


def _band(values: list[float]) -> tuple[float, float]:
    if len(values) < SEEDS_FOR_AN_INTERVAL:
        return min(values), max(values)
    found = interval(values)
    half = found.half_width or 0.0
    return found.mean - half, found.mean + half
