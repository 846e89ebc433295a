"""Accuracy on held-out problems: avg@k, over all and by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from unigrad.data import PreparedProblem
from unigrad.rollout import Rollouts
from unigrad.runs.metrics import Accuracy


def accuracy(problems: Sequence[PreparedProblem], rollouts: Rollouts) -> Accuracy:
    """avg@k of these problems' rollouts."""
    shares: dict[int | None, list[float]] = defaultdict(list)
    for prepared, group in zip(problems, rollouts.trajectories, strict=True):
        shares[prepared.problem.level].append(sum(each.verdict.correct for each in group) / len(group))
    every = [share for level in shares.values() for share in level]
    return Accuracy(
        accuracy=sum(every) / len(every),
        by_level={level: sum(each) / len(each) for level, each in shares.items() if level is not None},
    )
