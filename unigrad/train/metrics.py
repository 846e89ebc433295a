"""A step in numbers: what metrics.jsonl holds of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from unigrad.batch import LAYOUTS, Layout
from unigrad.hybrid import Decision
from unigrad.rollout import Rollouts
from unigrad.runs.metrics import Metric, layout_metric, reward_metric, verdict_metric
from unigrad.train.update_report import UpdateReport
from unigrad.types import Group, Reason, Trajectory


def rollout_metrics(rollouts: Rollouts) -> dict[str, Any]:
    """What the rollouts say of the policy; only what they cost where nothing was sampled."""
    every = [each for group in rollouts.trajectories for each in group]
    metrics: dict[str, Any] = {
        Metric.TOKENS_GENERATED: rollouts.tokens,
        Metric.TIME_ROLLOUT: rollouts.sampling_seconds,
        Metric.TIME_VERIFY: rollouts.scoring_seconds,
    }
    if not every:
        return metrics
    if rollouts.cut_mass is not None:
        metrics[Metric.CUT_MASS] = rollouts.cut_mass
    if rollouts.entropy is not None:
        metrics[Metric.ENTROPY] = rollouts.entropy
    reasons = Counter(each.verdict.reason for each in every)
    return metrics | {
        Metric.REWARD_MEAN: sum(each.reward for each in every) / len(every),
        Metric.LENGTH_MEAN: rollouts.tokens / len(every),
        Metric.TRUNCATED: sum(each.truncated for each in every) / len(every),
        **{verdict_metric(reason): reasons[reason] / len(every) for reason in Reason},
        **_reward_parts(every),
    }


def _reward_parts(every: Sequence[Trajectory]) -> dict[str, float]:
    """The mean of each of several rewards, where it applies to any rollout."""
    given = {
        name: [reward for each in every if (reward := each.reward_parts.get(name)) is not None]
        for name in every[0].reward_parts
    }
    return {reward_metric(name): sum(rewards) / len(rewards) for name, rewards in given.items() if rewards}


def decision_metrics(groups: Sequence[Group], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Shares of the step's questions."""
    count = len(groups)
    metrics: dict[str, Any] = {
        Metric.OFFLINE_RATIO: sum(decision.beta > 0 for decision in decisions) / count,
        Metric.DROPPED: sum(decision.is_dropped for decision in decisions) / count,
        Metric.NO_DEMONSTRATION: sum(decision.fell_back for decision in decisions) / count,
    }
    offline = sum(decision.beta > 0 for decision in decisions)
    online = sum(len(group.rollouts) for group, each in zip(groups, decisions, strict=True) if each.alpha > 0)
    if offline + online:
        # As the authors count: the batch holds a group's rollouts also where all advantages in it are 0.
        metrics[Metric.OFFLINE_ROWS] = offline / (offline + online)
    if all(group.rollouts for group in groups):
        metrics[Metric.SOLVED_NONE] = sum(group.solved == 0 for group in groups) / count
        metrics[Metric.SOLVED_ALL] = sum(group.solved == len(group.rollouts) for group in groups) / count
    return metrics


def token_metrics(
    trajectories: Sequence[Trajectory], trained: Collection[int], reports: Sequence[UpdateReport]
) -> dict[str, Any]:
    """Tokens that cost nothing, because their weight is zero, and what the others cost."""
    left_out = sum(
        len(each.completion_ids) for index, each in enumerate(trajectories) if each.on_policy and index not in trained
    )
    positions = sum((report.positions for report in reports), Counter[Layout]())
    computed = positions.total()
    return {
        Metric.TOKENS_SKIPPED: left_out + sum(report.idle for report in reports),
        Metric.TOKENS_COMPUTED: computed,
        **{layout_metric(layout): positions[layout] / max(computed, 1) for layout in LAYOUTS},
    }


def update_metrics(reports: Sequence[UpdateReport]) -> dict[str, Any]:
    """Means over the step's updates; the mismatch is of the first alone, whose weights sampled the rollouts."""
    tokens = sum(report.tokens for report in reports)
    metrics: dict[str, Any] = {
        Metric.LOSS: sum(report.loss for report in reports) / max(len(reports), 1),
        Metric.GRAD_NORM: sum(report.grad_norm for report in reports) / max(len(reports), 1),
        Metric.TOKENS_TRAINED: tokens,
        Metric.UPDATES: len(reports),
        Metric.UPDATES_SKIPPED: sum(report.skipped for report in reports),
    }
    if any(report.value_loss for report in reports):
        metrics[Metric.VALUE_LOSS] = sum(report.value_loss for report in reports) / len(reports)
    if tokens:
        metrics[Metric.TRAIN_ENTROPY] = sum(report.entropy for report in reports) / tokens
    sampled = sum(report.rollout_tokens for report in reports)
    if sampled:
        metrics[Metric.CLIP_FRACTION] = sum(report.clipped for report in reports) / sampled
    if reports and reports[0].rollout_tokens:
        metrics[Metric.MISMATCH_MEAN] = reports[0].mismatch / reports[0].rollout_tokens
        metrics[Metric.MISMATCH_MAX] = reports[0].mismatch_max
        metrics[Metric.MISMATCH_KL] = reports[0].mismatch_kl / reports[0].rollout_tokens
        metrics[Metric.EFFECTIVE_SAMPLES] = reports[0].effective_samples
    return metrics
