"""One step of Algorithm 1: sample, verify, gate, train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unigrad.batch import Rows, Sequences
from unigrad.config import Config
from unigrad.data import PreparedProblem
from unigrad.hybrid import Decision, Objective, decide, rows_of
from unigrad.policy import Policy
from unigrad.rollout import Engine, Rollouts, Sampling, roll_out
from unigrad.runs.metrics import Metric
from unigrad.seeds import mixed_seed
from unigrad.train.annotate import Annotator
from unigrad.train.metrics import decision_metrics, rollout_metrics, token_metrics, update_metrics
from unigrad.train.optimizer import learning_rate, set_learning_rate
from unigrad.train.progress import UNWATCHED, Watch
from unigrad.train.questions import Questions
from unigrad.train.update import update, with_own_old_policy
from unigrad.types import Group, Scorer, TrainerState
from unigrad.world import World


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step did. trained: the positions of the trajectories that trained among those of all groups, in order."""

    questions: Sequence[PreparedProblem]
    groups: Sequence[Group]
    decisions: Sequence[Decision]
    trained: frozenset[int]
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step works on. own_old_policy: log π_old is the trainer's own, not the engine's (see
    `with_own_old_policy`). engine: None where no stage samples. state: what reward functions are told of the run;
    `take` keeps it."""

    config: Config
    questions: Questions
    policy: Policy
    engine: Engine | None
    scorer: Scorer
    annotate: Annotator | None
    own_old_policy: bool
    optimizer: torch.optim.Optimizer
    world: World
    state: TrainerState

    def take(self, step: int, objective: Objective, progress: float, watch: Watch = UNWATCHED) -> Taken:
        """Step number `step` (from 1), under a stage of the method, at this share of the run."""
        config, start = self.config.train, time.perf_counter()
        questions = self.questions.at(step, demonstrated=not objective.samples)
        seed = mixed_seed(config.seed, step)
        self.state.global_step = step - 1
        rollouts = self._roll_out(questions, seed, watch) if objective.samples else Rollouts.none(len(questions))
        groups = [
            Group(problem=each.problem, rollouts=trajectories, demonstration=each.demonstration)
            for each, trajectories in zip(questions, rollouts.trajectories, strict=True)
        ]

        training = time.perf_counter()
        trajectories = [each for group in groups for each in group.trajectories]
        sequences = Sequences.of(trajectories, self.config.rollout.temperature)
        if self.annotate is not None:
            sequences = self.annotate(sequences)
        decisions = decide(groups, objective, progress=progress, seed=seed)
        rate = learning_rate(step, config)
        set_learning_rate(self.optimizer, rate)
        mini_batches = self._mini_batches(groups, decisions, objective, sequences)
        # What is compared, π_old and the values among it, is the step's start in every iteration.
        updates = mini_batches * config.num_iterations
        reports = [
            update(
                self.policy,
                self.optimizer,
                rows,
                config,
                self.config.value,
                self.world,
                watch.training(number, len(updates)),
            )
            for number, rows in enumerate(updates, start=1)
        ]
        trained = frozenset(index for rows in mini_batches for index in rows.trained_sequences)
        end = time.perf_counter()
        self.state.global_step = step

        metrics = {
            **rollout_metrics(rollouts),
            **decision_metrics(groups, decisions),
            **update_metrics(reports),
            **token_metrics(trajectories, trained, reports),
            Metric.LEARNING_RATE: rate,
            Metric.TIME_TRAIN: end - training,
            Metric.TIME_STEP: end - start,
        }
        return Taken(questions, groups, decisions, trained, metrics)

    def _mini_batches(
        self, groups: Sequence[Group], decisions: Sequence[Decision], objective: Objective, sequences: Sequences
    ) -> list[Rows]:
        """The rows of each of the step's updates; of those that have any."""
        config = self.config.train
        size = config.questions_per_update or len(groups)
        every = (
            rows_of(
                groups,
                [each.weights for each in decisions],
                objective.terms,
                sequences,
                questions=range(first, min(first + size, len(groups))),
                kl_reward_coefficient=objective.kl_reward_coefficient,
            )
            for first in range(0, len(groups), size)
        )
        updates = [rows for rows in every if len(rows)]
        if not (self.own_old_policy and objective.samples):
            return updates
        repeated = config.num_iterations > 1
        return with_own_old_policy(self.policy, updates, config.tokens_per_micro_batch, self.world, repeated=repeated)

    def _roll_out(self, questions: Sequence[PreparedProblem], seed: int, watch: Watch) -> Rollouts:
        assert self.engine is not None  # a stage samples
        sampling = Sampling.of_training(self.config.rollout)
        told = watch.sampling("rollouts", len(self.world.share(questions)) * sampling.num_generations)
        return roll_out(self.engine, self.scorer, questions, sampling, seed, told, world=self.world)
