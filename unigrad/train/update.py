"""One optimizer update: rows of the mixed loss to a gradient, in micro-batches, to a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unigrad.config import TrainConfig
from unigrad.estimator import Algorithm, surrogate
from unigrad.hybrid import Row
from unigrad.policy import Policy, micro_batches
from unigrad.train.optimizer import guarded_update


@dataclass(slots=True)
class UpdateReport:
    """Sums over the rows of one update, so that reports of several updates add up.

    loss: −Σ c_i Σ_t w_it log π_it (Eq. 13). mismatch: |log π_θ − the rollout engine's log-prob| over on-policy tokens.
    clipped: on-policy tokens whose weight the mask set to 0. entropy: over all tokens, in nats.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    skipped: bool = False
    tokens: int = 0
    entropy: float = 0.0
    rollout_tokens: int = 0
    mismatch: float = 0.0
    mismatch_max: float = 0.0
    clipped: int = 0


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Row],
    config: TrainConfig,
    rollout_temperature: float,
) -> UpdateReport:
    """Accumulate the gradient of the rows' mixed loss and step, unless the gradient is unfit (see `guarded_update`).

    Every row carries its final coefficient, so the gradient does not depend on how the rows are cut into micro-batches.
    Rollouts are seen at the temperature they were sampled at, demonstrations at temperature 1.
    """
    report = UpdateReport()
    lengths = [len(row.trajectory.prompt_ids) + len(row.trajectory.completion_ids) for row in rows]
    for indices in micro_batches(lengths, config.tokens_per_micro_batch):
        _accumulate(policy, [rows[index] for index in indices], rollout_temperature, report)
    outcome = guarded_update(optimizer, report.loss, config)
    report.grad_norm, report.skipped = outcome.grad_norm, outcome.skipped
    return report


def _accumulate(policy: Policy, rows: Sequence[Row], rollout_temperature: float, report: UpdateReport) -> None:
    trajectories = [row.trajectory for row in rows]
    temperatures = [rollout_temperature if each.on_policy else 1.0 for each in trajectories]
    tokens = policy.token_logprobs([(each.prompt_ids, each.completion_ids) for each in trajectories], temperatures)
    logp, mask = tokens.logp_BT, tokens.mask_BT
    rollout_logp = torch.zeros_like(logp)
    for index, each in enumerate(trajectories):
        if each.rollout_logprobs is not None:
            rollout_logp[index, : len(each.rollout_logprobs)] = logp.new_tensor(each.rollout_logprobs)
    advantages = logp.new_tensor([row.advantage for row in rows])
    on_policy = torch.tensor([each.on_policy for each in trajectories], device=logp.device)

    weights = torch.zeros_like(logp)
    for algorithm, indices in _by_algorithm(rows).items():
        # Demonstrations have no rollout log-probs; offline algorithms do not read them.
        weights[indices] = algorithm.weights(logp[indices], rollout_logp[indices], advantages[indices], mask[indices])
    loss = surrogate(logp, weights, logp.new_tensor([row.coefficient for row in rows]))
    loss.backward()  # type: ignore[no-untyped-call]

    with torch.no_grad():
        sampled = mask & on_policy[:, None]
        difference = (logp - rollout_logp).abs()[sampled]
        report.loss += loss.item()
        report.tokens += int(mask.sum())
        report.entropy += tokens.entropy_BT[mask].sum().item()
        report.rollout_tokens += int(sampled.sum())
        report.mismatch += difference.sum().item()
        report.mismatch_max = max(report.mismatch_max, difference.max().item() if difference.numel() else 0.0)
        report.clipped += int((sampled & (weights == 0) & (advantages[:, None] != 0)).sum())


def _by_algorithm(rows: Sequence[Row]) -> dict[Algorithm, list[int]]:
    found: dict[Algorithm, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row.algorithm, []).append(index)
    return found
