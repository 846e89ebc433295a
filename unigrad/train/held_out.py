"""The accuracy on held-out problems while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unigrad.data import PreparedProblem
from unigrad.evaluate import Accuracy, accuracy
from unigrad.rollout import Engine, Sampling, roll_out
from unigrad.train.progress import UNWATCHED, Watch
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

    def accuracies(self, watch: Watch = UNWATCHED) -> dict[str, Accuracy]:
        """Of the policy as it stands, on each set."""
        found = {}
        for name, problems in self.sets.items():
            mine = len(self.world.share(problems)) * self.sampling.num_generations
            told = watch.sampling(f"evaluating {name}", mine)
            rollouts = roll_out(self.engine, self.scorer, problems, self.sampling, self.seed, told, world=self.world)
            found[name] = accuracy(problems, rollouts)
        return found
