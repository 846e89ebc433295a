"""Algorithm 1: sample, verify, gate, train; step after step, from any checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import math
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from unigrad.config import CONFIG_FILE, Config
from unigrad.data import PreparedProblem, questions_at_step, share
from unigrad.evaluate import accuracy, sample_and_score
from unigrad.hybrid import Decision, Mixture, Objective, decide, mix
from unigrad.policy import Policy
from unigrad.rollout import Engine, Sampling
from unigrad.train import checkpoint
from unigrad.train.annotate import Annotator
from unigrad.train.checkpoint import Position
from unigrad.train.optimizer import learning_rate
from unigrad.train.pieces import TokenTexts
from unigrad.train.progress import Display
from unigrad.train.records import Records
from unigrad.train.update import UpdateReport, update
from unigrad.types import Group, Reason, Scorer, Trajectory
from unigrad.versions import write_environment


@dataclass(frozen=True)
class ProblemSet:
    """One of the sets that a run trains on; each of its problems is met `weight` times an epoch."""

    problems: Sequence[PreparedProblem]
    weight: float


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A run, ready to go: everything it needs is built, checked and handed in."""

    config: Config
    run: Path
    policy: Policy
    engine: Engine
    annotate: Annotator | None
    scorer: Scorer
    optimizer: torch.optim.Optimizer
    stages: Sequence[Objective]
    start: Position
    sets: Sequence[ProblemSet]
    held_out: Sequence[PreparedProblem]
    suite: str
    texts: TokenTexts | None
    """What cuts the rollouts into tokens for the rollout files; None leaves the tokens out."""

    def train(self, records: Records, display: Display) -> int | None:
        """Run the steps after `start`. Returns None when done, or the number of the signal that stopped it after the
        step in flight, saved. Raises NoSpace when a checkpoint cannot be written."""
        config = self.config.train
        if self.start.step == 0 and config.eval_steps and self.held_out:
            records.metrics({"step": 0, **self._evaluate(0, display)})
        position = self.start
        with _stop_signal() as stop:
            while not self._is_done(position):
                progress = self._progress(position)
                stage = next((i for i, each in enumerate(self.stages) if progress < each.until), len(self.stages) - 1)
                if stage != position.stage:
                    self.optimizer.state.clear()
                step = position.step + 1
                metrics = self._step(step, self.stages[stage], progress, records, display)
                position = Position(
                    step, position.tokens + metrics["tokens/generated"] + metrics["tokens/trained"], stage
                )
                last = self._is_done(position)
                if config.eval_steps and self.held_out and (last or step % config.eval_steps == 0):
                    metrics.update(self._evaluate(step, display))
                records.metrics(metrics)
                if (config.save_steps and (last or step % config.save_steps == 0)) or stop:
                    self._save(position)
                if stop and not last:
                    return stop[0]
        self._save_final()
        return None

    def _is_done(self, position: Position) -> bool:
        config = self.config.train
        return position.step >= config.max_steps or position.tokens >= (config.max_tokens or math.inf)

    def _progress(self, position: Position) -> float:
        """The share of the run that is done, in [0, 1), by steps or by tokens, whichever ends it first."""
        config = self.config.train
        return max(position.step / config.max_steps, position.tokens / (config.max_tokens or math.inf))

    def _step(
        self, step: int, objective: Objective, progress: float, records: Records, display: Display
    ) -> dict[str, Any]:
        config = self.config.train
        start = time.perf_counter()
        problems, shares = list[PreparedProblem](), []
        for each in self.sets:
            usable = [item for item in each.problems if objective.samples or item.demonstration is not None]
            problems += usable
            shares.append(share(len(usable), each.weight))
        questions = [
            problems[index] for index in questions_at_step(step, config.questions_per_step, shares, config.seed)
        ]
        groups, metrics = self._groups(questions, step, objective.samples)

        training = time.perf_counter()
        if self.annotate is not None:
            groups = self.annotate(groups)
        rate = learning_rate(step, config)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        decisions = decide(groups, objective, progress=progress, seed=_mixed_seed(config.seed, step))
        size = config.questions_per_update or len(groups)
        mixtures: list[Mixture] = []
        reports: list[UpdateReport] = []
        for first in range(0, len(groups), size):
            mixture = mix(
                groups[first : first + size],
                decisions[first : first + size],
                objective,
                self.config.algorithm.kl_reward_coefficient,
            )
            mixtures.append(mixture)
            if mixture.rows:
                reports.append(
                    update(
                        self.policy,
                        self.optimizer,
                        mixture.rows,
                        config,
                        self.config.value,
                        self.config.rollout.temperature,
                    )
                )
        end = time.perf_counter()

        metrics |= _decision_metrics(groups, decisions) | _update_metrics(reports)
        metrics["learning_rate"] = rate
        metrics["tokens/skipped"] = sum(mixture.skipped_tokens for mixture in mixtures)
        metrics["time/train"] = end - training
        metrics["time/step"] = end - start
        trained = {id(row.trajectory) for mixture in mixtures for row in mixture.rows}
        prompts = [each.prompt for each in questions]
        records.rollouts(step, _rollout_lines(groups, decisions, trained, prompts, self.texts))
        tokens_per_second = (metrics["tokens/generated"] + metrics["tokens/trained"]) / metrics["time/step"]
        display.stepped(step, metrics.get("reward/mean"), metrics["gate/offline_ratio"], tokens_per_second)
        return {"step": step, **metrics}

    def _groups(
        self, problems: Sequence[PreparedProblem], step: int, samples: bool
    ) -> tuple[list[Group], dict[str, Any]]:
        """The step's questions with their scored rollouts, and what the rollouts say of the policy."""
        if not samples:
            groups = [Group(problem=p.problem, rollouts=(), demonstration=p.demonstration) for p in problems]
            return groups, {"tokens/generated": 0, "time/rollout": 0.0, "time/verify": 0.0}
        seed = _mixed_seed(self.config.train.seed, step)
        sampling = self.config.rollout
        rollouts = sample_and_score(
            self.engine,
            self.policy.tokenizer,
            self.scorer,
            problems,
            Sampling(
                num_generations=sampling.num_generations,
                max_completion_length=sampling.max_completion_length,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                stop=sampling.stop,
            ),
            seed,
        )
        every = [each for group in rollouts.trajectories for each in group]
        reasons = Counter(each.verdict.reason for each in every)
        metrics: dict[str, Any] = {
            "reward/mean": sum(each.reward for each in every) / len(every),
            "policy/entropy": rollouts.entropy,
            "response/length_mean": rollouts.tokens / len(every),
            "response/truncated": sum(each.truncated for each in every) / len(every),
            "tokens/generated": rollouts.tokens,
            "time/rollout": rollouts.sampling_seconds,
            "time/verify": rollouts.scoring_seconds,
            **{f"verify/{reason.name.lower()}": reasons[reason] / len(every) for reason in Reason},
        }
        groups = [
            Group(problem=p.problem, rollouts=trajectories, demonstration=p.demonstration)
            for p, trajectories in zip(problems, rollouts.trajectories, strict=True)
        ]
        return groups, metrics

    def _evaluate(self, step: int, display: Display) -> dict[str, float]:
        config = self.config.eval
        sampling = Sampling(
            num_generations=config.num_generations,
            max_completion_length=config.max_completion_length or self.config.rollout.max_completion_length,
            temperature=config.temperature,
            top_p=config.top_p,
            stop=self.config.rollout.stop,
        )
        # The same random numbers at every evaluation: differences over steps come from the policy alone.
        rollouts = sample_and_score(
            self.engine,
            self.policy.tokenizer,
            self.scorer,
            self.held_out,
            sampling,
            _mixed_seed(self.config.train.seed, 0),
        )
        found = accuracy(self.held_out, rollouts)
        display.evaluated(step, found.accuracy, found.by_level)
        return found.metrics(self.suite)

    def _save(self, position: Position) -> None:
        def write(folder: Path) -> None:
            self.policy.save_pretrained(folder)
            (folder / CONFIG_FILE).write_text(self.config.dump(), encoding="utf-8")
            write_environment(folder)
            checkpoint.write_state(folder, self.optimizer, self.policy, position)

        # Weights and two moments of the same size, with a margin for the rest.
        checkpoint.write_atomically(self.run / f"checkpoint-{position.step}", write, 3 * self._weight_bytes() + 2**20)
        checkpoint.prune(self.run, self.config.train.save_total_limit)

    def _save_final(self) -> None:
        checkpoint.write_atomically(self.run / "final", self.policy.save_pretrained, self._weight_bytes() + 2**20)

    def _weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.policy.model.parameters())


def _mixed_seed(seed: int, step: int) -> int:
    """A 63-bit seed for each (seed, step): a question met again in a later epoch gets new random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest(), "big") >> 1


def _decision_metrics(groups: Sequence[Group], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Shares of the step's questions."""
    count = len(groups)
    metrics: dict[str, Any] = {
        "gate/offline_ratio": sum(decision.beta > 0 for decision in decisions) / count,
        "gate/dropped": sum(decision.is_dropped for decision in decisions) / count,
        "gate/no_demonstration": sum(decision.fell_back for decision in decisions) / count,
    }
    if all(group.rollouts for group in groups):
        metrics["gate/solved_none"] = sum(group.solved == 0 for group in groups) / count
        metrics["gate/solved_all"] = sum(group.solved == len(group.rollouts) for group in groups) / count
    return metrics


def _update_metrics(reports: Sequence[UpdateReport]) -> dict[str, Any]:
    """Means over the step's updates; the mismatch is of the first alone, whose weights sampled the rollouts."""
    tokens = sum(report.tokens for report in reports)
    metrics: dict[str, Any] = {
        "loss": sum(report.loss for report in reports) / max(len(reports), 1),
        "grad_norm": sum(report.grad_norm for report in reports) / max(len(reports), 1),
        "tokens/trained": tokens,
        "train/updates": len(reports),
        "train/updates_skipped": sum(report.skipped for report in reports),
    }
    if any(report.value_loss for report in reports):
        metrics["value_loss"] = sum(report.value_loss for report in reports) / len(reports)
    if tokens:
        metrics["train/entropy"] = sum(report.entropy for report in reports) / tokens
    sampled = sum(report.rollout_tokens for report in reports)
    if sampled:
        metrics["policy/clip_fraction"] = sum(report.clipped for report in reports) / sampled
    if reports and reports[0].rollout_tokens:
        metrics["policy/rollout_mismatch_mean"] = reports[0].mismatch / reports[0].rollout_tokens
        metrics["policy/rollout_mismatch_max"] = reports[0].mismatch_max
    return metrics


def _rollout_lines(
    groups: Sequence[Group],
    decisions: Sequence[Decision],
    trained: set[int],
    prompts: Sequence[str],
    texts: TokenTexts | None,
) -> Iterator[dict[str, Any]]:
    """A line for each rollout, and for each demonstration that trains; `texts` adds the rollouts' tokens."""
    for group, decision, prompt in zip(groups, decisions, prompts, strict=True):
        gate = {"alpha": decision.alpha, "beta": decision.beta, "solved": group.solved, "fell_back": decision.fell_back}
        demonstration = group.demonstration
        shown = (demonstration,) if demonstration is not None and id(demonstration) in trained else ()
        for sample, trajectory in (*enumerate(group.rollouts), *((None, each) for each in shown)):
            yield {
                "id": group.problem.id,
                "level": group.problem.level,
                "sample": sample,
                "kind": "demonstration" if sample is None else "rollout",
                "prompt": prompt,
                "completion": trajectory.text,
                "answer": group.problem.answer,
                "verdict": trajectory.verdict.reason.value,
                "extracted": trajectory.verdict.extracted,
                "reward": trajectory.reward,
                "truncated": trajectory.truncated,
                "tokens": len(trajectory.completion_ids),
                "gate": gate,
                "trained": id(trajectory) in trained,
                **_tokens(trajectory, texts),
            }


def _tokens(trajectory: Trajectory, texts: TokenTexts | None) -> dict[str, Any]:
    """The tokens' texts and the log-probs that they were sampled with, in nats."""
    if texts is None or trajectory.rollout_logprobs is None:
        return {}
    return {
        "pieces": texts(trajectory.completion_ids, trajectory.text),
        "logprobs": [round(value, 3) for value in trajectory.rollout_logprobs],
    }


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """A list that holds the signal once SIGINT or SIGTERM came; a second one of its kind acts at once, as usual."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
