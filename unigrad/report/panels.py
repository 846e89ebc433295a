"""Panels with lines over steps: in each a line for a method, the mean over its seeds, with a band around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from unigrad.stats.intervals import interval

# Okabe and Ito's, which the colour-blind tell apart, without the yellow that a white page swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":")
POINTS = 80
SEEDS_FOR_AN_INTERVAL = 5
WIDTH = 10.0
"""Inches."""
LEGEND_WIDTH = 120
"""Letters."""


def panels_of(count: int, row_height: float, most_columns: int = 3, alike: bool = False) -> tuple[Figure, list[Axes]]:
    """So many panels; a single row of them is higher than `row_height` inches. alike: on one scale."""
    columns = min(most_columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + (row_height if rows > 1 else 3.6) * rows), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharey=alike).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def finish(axes: Axes, is_share: bool) -> None:
    """Once everything is drawn: from 0, or below it, upwards."""
    axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
    if is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One for all panels, under them."""
    drawn = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if drawn:
        columns = max(1, min(len(drawn), LEGEND_WIDTH // (6 + max(len(label) for label in drawn))))
        figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=columns, frameon=False)


def window(steps: int) -> int:
    """Over how many steps a run of `steps` is averaged, so that its line has at most POINTS points."""
    return max(1, -(-steps // POINTS))


def explained(seeds: int, window: int) -> str:
    """What the lines and bands of so many seeds are, for a title."""
    if seeds >= SEEDS_FOR_AN_INTERVAL:
        what = f"mean of {seeds} seeds and 95% t-interval"
    else:
        what = f"mean of {seeds} seeds, from the smallest to the largest" if seeds > 1 else "one seed"
    return f"{what}; points are means of {window} steps" if window > 1 else what


def means(curve: Mapping[int, float], window: int) -> dict[int, float]:
    """`curve` in means of `window` steps, each at the last of them."""
    groups: dict[int, dict[int, float]] = {}
    for step, value in curve.items():
        groups.setdefault(-(-step // window), {})[step] = value
    return {max(group): fmean(group.values()) for group in groups.values()}


def draw_line(axes: Axes, curves: Sequence[Mapping[int, float]], label: str, number: int) -> None:
    """The mean of these seeds' curves at each step, in the colour of that number.

    The band is the 95% t-interval from five seeds on, and the smallest to the largest below, where that interval would
    fill the panel.
    """
    steps = sorted({step for curve in curves for step in curve})
    if not steps:
        return
    columns = [[curve[step] for curve in curves if step in curve] for step in steps]
    lower, upper = zip(*(_band(values) for values in columns), strict=True)
    draw_curve(axes, steps, [fmean(values) for values in columns], lower, upper, label, number)


def draw_curve(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    label: str,
    number: int,
) -> None:
    """A line with its band, in the colour and dashes of that number."""
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    # Each thinner than those below it, so that lines on top of one another all show.
    width = max(1.0, 2.6 - 0.35 * number)
    axes.plot(places, values, color=colour, linestyle=style, linewidth=width, label=label)
    axes.fill_between(places, lower, upper, color=colour, alpha=0.15, linewidth=0)


def _band(values: list[float]) -> tuple[float, float]:
    if len(values) < SEEDS_FOR_AN_INTERVAL:
        return min(values), max(values)
    found = interval(values)
    half = found.half_width or 0.0
    return found.mean - half, found.mean + half
