"""The course of training as small multiples: accuracy, offline ratio, entropy, response length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unigrad.report.panels import POINTS, draw_line, explained, finish, legend, means, panels_of, window
from unigrad.runs.metrics import Metric, RunMetrics

PANELS = {
    "accuracy": "held-out accuracy",
    Metric.OFFLINE_RATIO: "offline ratio: questions trained on their demonstration",
    Metric.ENTROPY: "entropy of the policy, nats",
    Metric.LENGTH_MEAN: "response length, tokens",
}
SHARES = ("accuracy", Metric.OFFLINE_RATIO)


def draw(measured: Mapping[str, Mapping[int, RunMetrics]], path: Path, *, by_tokens: bool = False) -> None:
    """Write a PNG: a line for each method's mean over its seeds, and a band.

    A run of many steps is drawn in means of several steps each. by_tokens: over the tokens generated
    and trained so far, between the runs' own points by interpolation, instead of over steps.
    """
    figure, panels = panels_of(len(PANELS), 3.4, most_columns=2)
    steps = {method: max((run.steps for run in runs.values()), default=0) for method, runs in measured.items()}
    # Over steps all lines share their points; over tokens each has its own, or the longest run would blur the others.
    longest = max(steps.values(), default=0)
    per_point = {method: window(own if by_tokens else longest) for method, own in steps.items()}
    for axes, (metric, title) in zip(panels, PANELS.items(), strict=True):
        for number, (method, runs) in enumerate(measured.items()):
            # Evaluations are few and each is over all held-out problems: they stand as they are.
            curves = [
                means(run.curves[metric], 1 if metric == "accuracy" else per_point[method]) for run in runs.values()
            ]
            if by_tokens:
                curves = _over_tokens(curves, list(runs.values()))
            draw_line(axes, curves, method, number)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("tokens generated and trained" if by_tokens else "step")
        finish(axes, is_share=metric in SHARES)
    legend(figure, panels)
    count = max((len(runs) for runs in measured.values()), default=0)
    figure.suptitle(explained(count, 1 if by_tokens else window(longest)), fontsize=9)
    figure.savefig(path, dpi=120, format="png")


def _over_tokens(curves: list[dict[int, float]], runs: Sequence[RunMetrics]) -> list[dict[int, float]]:
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
