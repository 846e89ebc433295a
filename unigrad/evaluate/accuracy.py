"""Accuracy on held-out problems: avg@k, over all and by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unigrad.data import PreparedProblem
from unigrad.evaluate.sampling import Rollouts


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The mean over problems of the share of their samples that is right (avg@k); by level where problems have one."""

    accuracy: float
    by_level: dict[int, float]

    def metrics(self, suite: str) -> dict[str, float]:
        levels = {f"eval/{suite}/level_{level}": share for level, share in sorted(self.by_level.items())}
        return {f"eval/{suite}/accuracy": self.accuracy, **levels}


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
