"""Lines over steps: a method's mean over its seeds, and a band around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes

from unigrad.measure.intervals import interval

# Okabe and Ito's, which the colour-blind tell apart, without the yellow that a white page swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":")
POINTS = 80
SEEDS_FOR_AN_INTERVAL = 5


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
