"""The accuracy on held-out problems while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unigrad.data import PreparedProblem
from unigrad.evaluate import Accuracy, accuracy
from unigrad.rollout import Engine, Sampling, roll_out
from unigrad.types import Scorer
from unigrad.world import World


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """sets: by the names that they have in the metrics. seed: the same at every evaluation, so that differences over
    steps come from the policy alone, and for every set, so that no set changes another's."""

    sets: Mapping[str, Sequence[PreparedProblem]]
    engine: Engine
    scorer: Scorer
    sampling: Sampling
    seed: int
    world: World

    def accuracies(self) -> dict[str, Accuracy]:
        """Of the policy as it stands, on each set."""
        return {
            name: accuracy(
                problems,
                roll_out(self.engine, self.scorer, problems, self.sampling, self.seed, world=self.world),
            )
            for name, problems in self.sets.items()
        }
