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
from unigrad.runs.checkpoints import NoSpace, Position, partial, prune, write_atomically
from unigrad.runs.checksums import seal
from unigrad.runs.folder import Example, checkpoint, final_adapter, final_model, write_origin
from unigrad.runs.metrics import Metric, RunMetrics, mean_accuracy
from unigrad.runs.records import Records
from unigrad.runs.rollouts import GateDecision, RolloutLine
from unigrad.signals import stop_signals
from unigrad.train.checkpoint import write_moments, write_state
from unigrad.train.held_out import HeldOut
from unigrad.train.model_card import write_card
from unigrad.train.pieces import TokenTexts
from unigrad.train.progress import Display, Watch
from unigrad.train.step import Step, Taken
from unigrad.types import Trajectory
from unigrad.verify.kept import KeptVerdicts
from unigrad.world import World, is_of_another_rank

STOPPING = "stopping: the step in flight is finished and saved first; again stops at once, and loses it"


@dataclass(slots=True)
class _Standing:
    """Where a run is. saved: the last step with a checkpoint. best: the step whose checkpoint is kept as the best
    (`train.keep_best`). is_stalled: `train.patience` has run out. is_whole: the weights are those of `position`."""

    position: Position
    saved: int
    best: int | None
    is_stalled: bool
    is_whole: bool = True

    def leave(self) -> None:
        """The weights are about to move."""
        self.is_whole = False

    def arrive(self, position: Position) -> None:
        self.position, self.is_whole = position, True


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A run, ready to go: everything it needs is built, checked and handed in.

    inputs: the fingerprints of what it reads, by key. examples: of its training sets, one each. held_out: None where
    nothing is evaluated. texts: cuts the rollouts into tokens for the rollout files; None leaves the tokens out. kept:
    the verdicts that the run knows.
    """

    run: Path
    step: Step
    stages: Sequence[Objective]
    start: Position
    inputs: Mapping[str, str]
    examples: Sequence[Example]
    held_out: HeldOut | None
    texts: TokenTexts | None
    kept: KeptVerdicts

    @property
    def world(self) -> World:
        return self.step.world

    def go(self, records: Records | None, display: Display) -> int | None:
        """Take the steps after `start`. Returns None when done, or the number of the signal that stopped it after the
        step in flight, saved. records: of the first rank alone.

        Whatever a step raises is raised again, once the last finished step is saved, where its weights are still whole
        and fit: they are not after a FloatingPointError. Raises NoSpace when a checkpoint cannot be written.
        """
        best, is_stalled = self.world.from_first(lambda: (RunMetrics(self.run).best_step, self._is_stalled()))
        standing = _Standing(self.start, saved=self.start.step, best=best, is_stalled=is_stalled)
        hook = self.step.optimizer.register_step_pre_hook(lambda *_: standing.leave())
        try:
            with stop_signals(second_acts=True, announce=STOPPING) as stop:
                stopped_by = self._go(standing, stop, records, display)
            if not self._is_over(standing):
                return stopped_by
            self._save_final(standing)
        except (FloatingPointError, NoSpace):
            raise
        except Exception as error:
            # What is in parts only all ranks could save; and of another rank's failure it is not known what it means.
            alone = not self.step.policy.is_sharded and not is_of_another_rank(error)
            if alone and standing.is_whole and standing.saved < standing.position.step:
                with contextlib.suppress(OSError):  # what happened first is what is to be said
                    self._save(standing)
            raise
        finally:
            hook.remove()
        return None

    def _go(self, standing: _Standing, stop: Sequence[int], records: Records | None, display: Display) -> int | None:
        """Step after step, until the run is done or asked to stop; by which signal, to any of the ranks."""
        config = self.step.config.train
        if self.start.step == 0 and self.held_out is not None:
            evaluated = self._evaluate(0, display)
            if records is not None:
                records.metrics({Metric.STEP: 0, **evaluated})
        while not self._is_over(standing):
            position = standing.position
            progress = self._progress(position)
            stage = next((i for i, each in enumerate(self.stages) if progress < each.until), len(self.stages) - 1)
            if stage != position.stage:
                self.step.optimizer.state.clear()
            step = position.step + 1
            taken = self.step.take(step, self.stages[stage], progress, Watch(display.within))
            self.kept.exchange(self.world)
            if records is not None:
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
                if records is not None:
                    records.metrics({Metric.STEP: step, **taken.metrics, **evaluated})
            standing.best = evaluated.get(Metric.BEST_STEP, standing.best)
            if evaluated and not last and self.world.from_first(self._is_stalled):
                standing.is_stalled = last = True
                display.say(f"step {step}: train.patience = {config.patience} evaluations without a better one; ending")
            stopped_by = self.world.gather(list(stop[:1]))
            if (config.save_steps and (last or step % config.save_steps == 0)) or stopped_by or standing.best == step:
                self._save(standing)
            if stopped_by:
                return stopped_by[0]
        return None

    def _is_over(self, standing: _Standing) -> bool:
        return standing.is_stalled or self._is_done(standing.position)

    def _is_stalled(self) -> bool:
        """Whether none of the last `train.patience` evaluations is better than the best before them."""
        patience = self.step.config.train.patience
        if patience is None:
            return False
        accuracies = [each.accuracy for _, each in sorted(RunMetrics(self.run).evaluations.items())]
        before, last = accuracies[:-patience], accuracies[-patience:]
        return bool(before) and max(last) <= max(before)

    def _is_done(self, position: Position) -> bool:
        config = self.step.config.train
        return position.step >= config.max_steps or position.tokens >= (config.max_tokens or math.inf)

    def _progress(self, position: Position) -> float:
        """The share of the run that is done, in [0, 1), by steps or by tokens, whichever ends it first."""
        config = self.step.config.train
        return max(position.step / config.max_steps, position.tokens / (config.max_tokens or math.inf))

    def _evaluate(self, step: int, display: Display) -> dict[str, Any]:
        assert self.held_out is not None
        found = self.held_out.accuracies(Watch(display.within))
        display.evaluated(step, found)
        metrics = {key: value for name, each in found.items() for key, value in each.metrics(name).items()}
        if self.step.config.train.keep_best and step:
            accuracy = mean_accuracy(list(found.values())).accuracy
            metrics[Metric.BEST_STEP] = self.world.from_first(lambda: self._best_step(step, accuracy))
        return metrics

    def _best_step(self, step: int, accuracy: float) -> int:
        """This step, unless a checkpoint that is kept does as well."""
        earlier = RunMetrics(self.run)
        kept = earlier.best_step
        if kept is None or not checkpoint(self.run, kept).is_dir():
            return step
        return kept if earlier.evaluations[kept].accuracy >= accuracy else step

    def _save(self, standing: _Standing) -> None:
        policy, position = self.step.policy, standing.position
        target, in_parts = checkpoint(self.run, position.step), policy.is_sharded

        with policy.whole() as whole:

            def write(folder: Path) -> None:
                whole.save_trained(folder)
                write_origin(folder, self.step.config)
                write_state(folder, self.step.optimizer, whole, position, in_parts=in_parts)
                seal(folder)

            if self.world.is_first:
                # Weights and two moments of the same size, with a margin for the rest.
                write_atomically(target, write, 3 * policy.trained_bytes + 2**20)
            elif in_parts:
                write_moments(partial(target), self.step.optimizer)
        standing.saved = position.step
        self._prune(standing)

    def _save_final(self, standing: _Standing) -> None:
        dtype = getattr(torch, self.step.config.model.save_dtype)
        with self.step.policy.whole() as whole:

            def save(folder: Path) -> None:
                whole.save_pretrained(folder, dtype)
                write_card(folder, self.step.config, self.run)

            if self.world.is_first:
                # Before final/, with which a run is finished.
                if whole.adapter is not None:
                    write_atomically(final_adapter(self.run), whole.adapter.save, whole.trained_bytes + 2**20)
                write_atomically(final_model(self.run), save, self._weight_bytes() + 2**20)
        # What a kill left between the last checkpoint and its pruning, or within either.
        self._prune(standing)

    def _prune(self, standing: _Standing) -> None:
        if self.world.is_first:
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
                    problem=group.problem.problem,
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
