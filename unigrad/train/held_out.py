"""The accuracy on held-out problems while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unigrad.data import PreparedProblem
from unigrad.evaluate import Accuracy, accuracy
from unigrad.rollout import Engine, Sampling, roll_out
from unigrad.types import Scorer


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """suite: what the problems are called in the metrics. seed: the same at every evaluation, so that differences over
    steps come from the policy alone."""

    problems: Sequence[PreparedProblem]
    suite: str
    engine: Engine
    scorer: Scorer
    sampling: Sampling
    seed: int

    def accuracy(self) -> Accuracy:
        """Of the policy as it stands."""
        return accuracy(self.problems, roll_out(self.engine, self.scorer, self.problems, self.sampling, self.seed))
