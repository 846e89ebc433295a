"""One optimizer update: rows of the mixed loss to a gradient, in micro-batches, to a step.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unigrad.config import TrainConfig, ValueConfig
from unigrad.estimator import Algorithm, entropy_bonus, surrogate
from unigrad.hybrid import Row
from unigrad.policy import Policy, TokenStatistics, clipped_value_loss
from unigrad.train.forward import split, token_statistics
from unigrad.train.optimizer import guarded_update
from unigrad.types import Trajectory


@dataclass(slots=True)
class UpdateReport:
    """Sums over the rows of one update, so that reports of several updates add up. A trajectory's tokens count once.

    loss: −Σ c_i Σ_t w_it log π_it (Eq. 13), less the entropy bonus. value_loss: Σ c_i Σ_t of the value head's.
    mismatch: |log π_θ − the rollout engine's log-prob| over on-policy tokens. clipped: on-policy tokens whose weight
    the mask set to 0. entropy: over all tokens, in nats.
    """

    loss: float = 0.0
    value_loss: float = 0.0
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
    value: ValueConfig,
    rollout_temperature: float,
) -> UpdateReport:
    """Accumulate the gradient of the rows' mixed loss and step, unless the gradient is unfit (see `guarded_update`).

    Every row carries its final coefficient, and weights that compare tokens across the batch are computed before it is
    cut, so the gradient does not depend on the micro-batches. Rollouts are seen at the temperature they were sampled
    at, demonstrations at temperature 1.
    """
    report = UpdateReport()
    # Rows of one trajectory stand together and share its forward pass.
    by_trajectory: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        by_trajectory.setdefault(id(row.trajectory), []).append(index)
    together = list(by_trajectory.values())
    batches = [
        [index for each in part for index in together[each]]
        for part in split([rows[first].trajectory for first, *_ in together], config.tokens_per_micro_batch)
    ]

    def forward(batch: Sequence[Row]) -> TokenStatistics:
        distinct = {id(row.trajectory): row.trajectory for row in batch}
        position = {key: index for index, key in enumerate(distinct)}
        tokens = token_statistics(policy, list(distinct.values()), rollout_temperature)
        if len(distinct) == len(batch):
            return tokens
        return tokens.take([position[id(row.trajectory)] for row in batch])

    whole: dict[int, Tensor] = {}
    if any(row.algorithm.whole_batch for row in rows):
        with torch.no_grad():
            statistics = [forward([rows[index] for index in indices]) for indices in batches]
        order = [index for indices in batches for index in indices]
        weights = _weights([rows[index] for index in order], _joined(statistics))
        whole = dict(zip(order, weights, strict=True))
    for indices in batches:
        batch = [rows[index] for index in indices]
        tokens = forward(batch)
        weights = (
            torch.stack([whole[index][: tokens.logp_BT.shape[1]] for index in indices])
            if whole
            else _weights(batch, tokens)
        )
        _accumulate(batch, tokens, weights, value, report)
    outcome = guarded_update(optimizer, report.loss + report.value_loss, config)
    report.grad_norm, report.skipped = outcome.grad_norm, outcome.skipped
    return report


def _accumulate(
    rows: Sequence[Row], tokens: TokenStatistics, weights: Tensor, value: ValueConfig, report: UpdateReport
) -> None:
    """Add these rows' gradient to the parameters', and their sums to the report."""
    logp, mask = tokens.logp_BT, tokens.mask_BT
    coefficients = logp.new_tensor([row.coefficient for row in rows])
    loss = surrogate(logp, weights, coefficients)
    bonus = logp.new_tensor([row.algorithm.entropy_coefficient for row in rows])
    if bonus.any():
        loss = loss - entropy_bonus(tokens.entropy_BT, mask, coefficients * bonus)
    value_loss = torch.zeros_like(loss)
    if tokens.values_BT is not None:
        returns = _padded(rows, tokens, lambda row: row.returns)
        before = _padded(rows, tokens, lambda row: row.trajectory.values)
        # A demonstration has no return to predict.
        predicted = mask & torch.tensor([row.returns is not None for row in rows], device=logp.device)[:, None]
        losses = clipped_value_loss(tokens.values_BT, before, returns, value.clip)
        value_loss = value.coefficient * (torch.where(predicted, losses, 0.0) * coefficients[:, None]).sum()
    (loss + value_loss).backward()  # type: ignore[no-untyped-call]

    with torch.no_grad():
        sampled = mask & torch.tensor([row.trajectory.on_policy for row in rows], device=logp.device)[:, None]
        advantages = _padded(rows, tokens, lambda row: row.advantage)
        difference = (logp - _padded(rows, tokens, lambda row: row.trajectory.rollout_logprobs)).abs()[sampled]
        report.loss += loss.item()
        report.value_loss += value_loss.item()
        again = [index and row.trajectory is rows[index - 1].trajectory for index, row in enumerate(rows)]
        computed = mask & ~torch.tensor(again, dtype=torch.bool, device=logp.device)[:, None]
        report.tokens += int(computed.sum())
        report.entropy += tokens.entropy_BT[computed].sum().item()
        report.rollout_tokens += int(sampled.sum())
        report.mismatch += difference.sum().item()
        report.mismatch_max = max(report.mismatch_max, difference.max().item() if difference.numel() else 0.0)
        report.clipped += int((sampled & (weights == 0) & (advantages != 0)).sum())


def _weights(rows: Sequence[Row], tokens: TokenStatistics) -> Tensor:
    """Each token's weight under its row's algorithm, f[B,T]."""
    logp = tokens.logp_BT.detach()
    old = _padded(rows, tokens, lambda row: _log_old(row.trajectory))
    advantages = _padded(rows, tokens, lambda row: row.advantage)
    questions = torch.tensor([row.question for row in rows], device=logp.device)

    def padded(of: Callable[[Row], tuple[float, ...] | None], needed: bool, indices: list[int]) -> Tensor | None:
        return _padded(rows, tokens, of)[indices] if needed else None

    weights = torch.zeros_like(logp)
    for algorithm, indices in _by_algorithm(rows).items():
        needs = algorithm.needs
        # Demonstrations have no rollout log-probs; offline algorithms do not read them.
        weights[indices] = algorithm.weights(
            logp[indices],
            old[indices],
            advantages[indices],
            tokens.mask_BT[indices],
            entropy=tokens.entropy_BT[indices] if "entropy" in needs else None,
            reference_logp=padded(lambda row: row.trajectory.reference_logprobs, "reference_logp" in needs, indices),
            engine_logp=padded(lambda row: row.trajectory.rollout_logprobs, "engine_logp" in needs, indices),
            groups=questions[indices] if "groups" in needs else None,
        )
    return weights


def _log_old(trajectory: Trajectory) -> tuple[float, ...] | None:
    return trajectory.rollout_logprobs if trajectory.policy_logprobs is None else trajectory.policy_logprobs


def _padded(
    rows: Sequence[Row], tokens: TokenStatistics, of: Callable[[Row], float | tuple[float, ...] | None]
) -> Tensor:
    """A number a row, or a tuple a row, at its tokens, f[B,T]; 0 where there is none."""
    padded = torch.zeros_like(tokens.logp_BT)
    for index, row in enumerate(rows):
        values = of(row)
        if values is not None:
            length = len(row.trajectory.completion_ids)
            padded[index, :length] = padded.new_tensor(values)
    return padded


def _joined(statistics: Sequence[TokenStatistics]) -> TokenStatistics:
    """Statistics of several micro-batches as those of one, padded to the longest."""
    width = max(each.logp_BT.shape[1] for each in statistics)

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])

    return TokenStatistics(
        join([each.logp_BT for each in statistics]),
        join([each.entropy_BT for each in statistics]),
        join([each.mask_BT for each in statistics]),
        None,
    )


def _by_algorithm(rows: Sequence[Row]) -> dict[Algorithm, list[int]]:
    found: dict[Algorithm, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row.algorithm, []).append(index)
    return found
