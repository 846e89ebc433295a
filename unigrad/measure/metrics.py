"""A run's numbers, read from its metrics.jsonl, finished or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from unigrad.files import json_lines

METRICS_FILE = "metrics.jsonl"
ROLLOUTS_FOLDER = "rollouts"
LAST_STEPS = 10
"""Steps over which the final offline ratio is averaged: one step is too few questions to say anything."""
CURVES = ("gate/offline_ratio", "policy/entropy", "response/length_mean")
_EVALUATION = re.compile(r"eval/(?P<suite>.+)/(?:(?P<all>accuracy)|level_(?P<level>\d+))")


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares of the held-out problems that are solved."""

    accuracy: float
    by_level: dict[int, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's numbers; its curves by metric and step, `accuracy` among them. A metric that never came has no points."""

    final: Scores
    base: Scores | None
    steps: int
    tokens_generated: int
    tokens_trained: int
    minutes: float
    offline_ratio: float | None
    curves: dict[str, dict[int, float]]
    tokens_by_step: dict[int, int]
    """Generated and trained up to and with each step."""

    @property
    def accuracy(self) -> float:
        return self.final.accuracy

    @property
    def tokens(self) -> int:
        """What train.max_tokens counts."""
        return self.tokens_generated + self.tokens_trained


def measure(folder: Path) -> Measured | None:
    """The numbers of the run in `folder`; None where it has none yet, not even one evaluation."""
    lines = metrics_lines(folder)
    evaluations = evaluated(lines)
    if not evaluations:
        return None
    steps = [line for line in lines if line["step"] > 0]
    curves = {name: curve(lines, name) for name in CURVES}
    spent = [(line.get("tokens/generated") or 0) + (line.get("tokens/trained") or 0) for line in steps]
    ratios = list(curves["gate/offline_ratio"].values())[-LAST_STEPS:]
    return Measured(
        final=evaluations[max(evaluations)],
        base=evaluations.get(0),
        steps=len(steps),
        tokens_generated=sum(line.get("tokens/generated") or 0 for line in steps),
        tokens_trained=sum(line.get("tokens/trained") or 0 for line in steps),
        minutes=sum(line.get("time/step") or 0.0 for line in steps) / 60,
        offline_ratio=fmean(ratios) if ratios else None,
        curves={"accuracy": {step: scores.accuracy for step, scores in evaluations.items()}, **curves},
        tokens_by_step=dict(zip([0, *(line["step"] for line in steps)], accumulate(spent, initial=0), strict=True)),
    )


def metrics_lines(folder: Path) -> list[dict[str, Any]]:
    """One object a step, of the run in `folder`; a last line cut off, by a kill or in the writing, is left out."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    return list(json_lines(path))


def curve(lines: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """A metric by step; steps at which it was not finite, or not written, are left out."""
    return {line["step"]: line[metric] for line in lines if line.get(metric) is not None}


def evaluated(lines: Sequence[Mapping[str, Any]]) -> dict[int, Scores]:
    """The evaluations, by step; 0 is before training."""
    return {line["step"]: scores for line in lines if (scores := _scores(line)) is not None}


def _scores(line: Mapping[str, Any]) -> Scores | None:
    accuracy, by_level = None, {}
    for key, value in line.items():
        match = _EVALUATION.fullmatch(key)
        if match is None or value is None:
            continue
        if match["all"]:
            accuracy = value
        else:
            by_level[int(match["level"])] = value
    return None if accuracy is None else Scores(accuracy, by_level)
