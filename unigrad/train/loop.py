"""A run: step after step, from any checkpoint, evaluated and saved as it goes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unigrad.hybrid import Objective
from unigrad.runs.checkpoints import NoSpace, Position, prune, write_atomically
from unigrad.runs.checksums import seal
from unigrad.runs.folder import checkpoint, final_adapter, final_model, write_origin
from unigrad.runs.metrics import Metric, RunMetrics, mean_accuracy
from unigrad.runs.records import Records
from unigrad.runs.rollouts import GateDecision, RolloutLine
from unigrad.signals import stop_signals
from unigrad.train.checkpoint import write_state
from unigrad.train.held_out import HeldOut
from unigrad.train.pieces import TokenTexts
from unigrad.train.progress import Display
from unigrad.train.step import Step, Taken
from unigrad.types import Trajectory


@dataclass(slots=True)
class _Standing:
    """Where a run is. saved: the last step with a checkpoint. best: the step whose checkpoint is kept as the best
    (`train.keep_best`). is_whole: the weights are those of `position`."""

    position: Position
    saved: int
    best: int | None
    is_whole: bool = True

    def leave(self) -> None:
        """The weights are about to move."""
        self.is_whole = False

    def arrive(self, position: Position) -> None:
        self.position, self.is_whole = position, True


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A run, ready to go: everything it needs is built, checked and handed in.

    inputs: the fingerprints of what it reads, by key. held_out: None where nothing is evaluated. texts: cuts the
    rollouts into tokens for the rollout files; None leaves the tokens out.
    """

    run: Path
    step: Step
    stages: Sequence[Objective]
    start: Position
    inputs: Mapping[str, str]
    held_out: HeldOut | None
    texts: TokenTexts | None

    def go(self, records: Records, display: Display) -> int | None:
        """Take the steps after `start`. Returns None when done, or the number of the signal that stopped it after the
        step in flight, saved.

        Whatever a step raises is raised again, once the last finished step is saved, where its weights are still whole
        and fit: they are not after a FloatingPointError. Raises NoSpace when a checkpoint cannot be written.
        """
        standing = _Standing(self.start, saved=self.start.step, best=RunMetrics(self.run).best_step)
        hook = self.step.optimizer.register_step_pre_hook(lambda *_: standing.leave())
        try:
            with stop_signals(second_acts=True) as stop:
                self._go(standing, stop, records, display)
            if not self._is_done(standing.position):
                return stop[0]
            self._save_final(standing)
        except (FloatingPointError, NoSpace):
            raise
        except Exception:
            if standing.is_whole and standing.saved < standing.position.step:
                with contextlib.suppress(OSError):  # what happened first is what is to be said
                    self._save(standing)
            raise
        finally:
            hook.remove()
        return None

    def _go(self, standing: _Standing, stop: Sequence[int], records: Records, display: Display) -> None:
        """Step after step, until the run is done or asked to stop."""
        config = self.step.config.train
        if self.start.step == 0 and self.held_out is not None:
            records.metrics({Metric.STEP: 0, **self._evaluate(0, display)})
        while not self._is_done(standing.position):
            position = standing.position
            progress = self._progress(position)
            stage = next((i for i, each in enumerate(self.stages) if progress < each.until), len(self.stages) - 1)
            if stage != position.stage:
                self.step.optimizer.state.clear()
            step = position.step + 1
            taken = self.step.take(step, self.stages[stage], progress)
            records.rollouts(step, _rollout_lines(taken, self.texts))
            tokens = taken.metrics[Metric.TOKENS_GENERATED] + taken.metrics[Metric.TOKENS_TRAINED]
            display.stepped(
                step,
                taken.metrics.get(Metric.REWARD_MEAN),
                taken.metrics[Metric.OFFLINE_RATIO],
                tokens / taken.metrics[Metric.TIME_STEP],
            )
            display.watched(step, taken.metrics, self.step.config.rollout.mismatch_alarm)
            standing.arrive(Position(step, position.tokens + tokens, stage))
            last = self._is_done(standing.position)
            evaluated = {}
            try:
                if self.held_out is not None and (last or step % config.eval_steps == 0):
                    evaluated = self._evaluate(step, display)
            finally:
                records.metrics({Metric.STEP: step, **taken.metrics, **evaluated})
            standing.best = evaluated.get(Metric.BEST_STEP, standing.best)
            if (config.save_steps and (last or step % config.save_steps == 0)) or stop or standing.best == step:
                self._save(standing)
            if stop:
                return

    def _is_done(self, position: Position) -> bool:
        config = self.step.config.train
        return position.step >= config.max_steps or position.tokens >= (config.max_tokens or math.inf)

    def _progress(self, position: Position) -> float:
        """The share of the run that is done, in [0, 1), by steps or by tokens, whichever ends it first."""
        config = self.step.config.train
        return max(position.step / config.max_steps, position.tokens / (config.max_tokens or math.inf))

    def _evaluate(self, step: int, display: Display) -> dict[str, Any]:
        assert self.held_out is not None
        found = self.held_out.accuracies()
        display.evaluated(step, found)
        metrics = {key: value for name, each in found.items() for key, value in each.metrics(name).items()}
        if self.step.config.train.keep_best and step:
            metrics[Metric.BEST_STEP] = self._best_step(step, mean_accuracy(list(found.values())).accuracy)
        return metrics

    def _best_step(self, step: int, accuracy: float) -> int:
        """This step, unless a checkpoint that is kept does as well."""
        earlier = RunMetrics(self.run)
        kept = earlier.best_step
        if kept is None or not checkpoint(self.run, kept).is_dir():
            return step
        return kept if earlier.evaluations[kept].accuracy >= accuracy else step

    def _save(self, standing: _Standing) -> None:
        policy, config, position = self.step.policy, self.step.config, standing.position

        def write(folder: Path) -> None:
            policy.save_trained(folder)
            write_origin(folder, config)
            write_state(folder, self.step.optimizer, policy, position)
            seal(folder)

        # Weights and two moments of the same size, with a margin for the rest.
        write_atomically(checkpoint(self.run, position.step), write, 3 * policy.trained_bytes + 2**20)
        standing.saved = position.step
        prune(self.run, config.train.save_total_limit, standing.best)

    def _save_final(self, standing: _Standing) -> None:
        policy, dtype = self.step.policy, getattr(torch, self.step.config.model.save_dtype)
        # Before final/, with which a run is finished.
        if policy.adapter is not None:
            write_atomically(final_adapter(self.run), policy.adapter.save, policy.trained_bytes + 2**20)
        write_atomically(
            final_model(self.run),
            lambda folder: policy.save_pretrained(folder, dtype),
            self._weight_bytes() + 2**20,
        )
        # What a kill left between the last checkpoint and its pruning, or within either.
        prune(self.run, self.step.config.train.save_total_limit, standing.best)

    def _weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.step.policy.model.parameters())


def _rollout_lines(taken: Taken, texts: TokenTexts | None) -> Iterator[RolloutLine]:
    """A line for each rollout, and for each demonstration that trains; `texts` adds the rollouts' tokens."""
    index = 0
    for group, decision, question in zip(taken.groups, taken.decisions, taken.questions, strict=True):
        gate = GateDecision(decision.alpha, decision.beta, group.solved, decision.fell_back)
        for sample, trajectory in enumerate(group.trajectories):
            trained = index in taken.trained
            index += 1
            if trajectory.on_policy or trained:
                yield RolloutLine(
                    id=group.problem.id,
                    level=group.problem.level,
                    sample=sample if trajectory.on_policy else None,
                    prompt=question.prompt,
                    completion=trajectory.text,
                    answer=group.problem.answer,
                    verdict=trajectory.verdict.reason.value,
                    extracted=trajectory.verdict.extracted,
                    reward=trajectory.reward,
                    truncated=trajectory.truncated,
                    tokens=len(trajectory.completion_ids),
                    gate=gate,
                    trained=trained,
                    weights_version=trajectory.weights_version,
                    **_tokens(trajectory, texts),
                )


def _tokens(trajectory: Trajectory, texts: TokenTexts | None) -> dict[str, Any]:
    """The tokens' texts and the log-probs that they were sampled with, in nats."""
    if texts is None or trajectory.rollout_logprobs is None:
        return {}
    return {
        "pieces": texts(trajectory.completion_ids, trajectory.text),
        "logprobs": [round(value, 3) for value in trajectory.rollout_logprobs],
    }
