"""One optimizer update: rows of the mixed loss to a gradient, in micro-batches, to a step.

Shapes: M completion tokens of a micro-batch, N tokens of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unigrad.batch import Rows, Sequences
from unigrad.config import TrainConfig, ValueConfig
from unigrad.estimator import surrogate, weigh
from unigrad.policy import Policy, TokenStatistics, clipped_value_loss
from unigrad.train.optimizer import guarded_update, sum_gradients
from unigrad.train.shares import Share, share_of
from unigrad.train.update_report import UpdateReport
from unigrad.world import World


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    config: TrainConfig,
    value: ValueConfig,
    world: World,
    told: Callable[[int, int], None] = lambda _number, _batches: None,
) -> UpdateReport:
    """Accumulate the gradient of the rows' mixed loss and step, unless the gradient is unfit (see `guarded_update`).

    Every row carries its final coefficient, and weights that compare tokens across the batch are computed before it is
    cut, so the gradient does not depend on the micro-batches, nor on the ranks: all hold the same rows, each computes
    its share, and the gradients are summed. `told`: of each micro-batch, its number from 1 and how many there are.
    """
    report = UpdateReport()
    mine = share_of(policy, rows.sequences, rows.trained_sequences, config.tokens_per_micro_batch, world)
    whole_N = _weights_over_all(policy, rows, mine, world)
    for number, batch in enumerate((*mine.batches, *mine.idle)):
        if number < len(mine.batches):
            told(number + 1, len(mine.batches))
        part, tokens_N = rows.select(batch.indices_P)
        if is_idle := number >= len(mine.batches):
            part = replace(part, coefficient_R=torch.zeros_like(part.coefficient_R))
        part = part.to(policy.device, policy.dtype)
        statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
        weights_N = _weights(part, statistics) if whole_N is None else whole_N[tokens_N.to(whole_N.device)]
        loss, value_loss = _loss(part, statistics, weights_N), _value_loss(part, statistics, value)
        (loss + value_loss).backward()  # type: ignore[no-untyped-call]
        if not is_idle:
            report.add(batch, part, statistics, weights_N, loss, value_loss)
    if not policy.is_sharded:  # its backward pass sums them
        sum_gradients(optimizer, world)
    report = UpdateReport.of_all(world.gather([report]))
    outcome = guarded_update(optimizer, report.loss + report.value_loss, config)
    report.grad_norm, report.skipped = outcome.grad_norm, outcome.skipped
    return report


def with_own_old_policy(
    policy: Policy, updates: Sequence[Rows], tokens_per_micro_batch: int, world: World, *, repeated: bool = False
) -> list[Rows]:
    """A step's updates, with log π_old of the rollouts from the trainer's own forward in place of the engine's.

    The first update's weights sampled them, so its own forward says it, and the ratio is 1 to the bit. For the others,
    and for the first where they are `repeated`, it is taken now, before any weight moves, in the very micro-batches
    that they train in: in another layout the same weights would round to other numbers.
    """
    own = []
    for number, rows in enumerate(updates):
        old_logp_M = None
        if number or repeated:
            mine = share_of(policy, rows.sequences, rows.trained_sequences, tokens_per_micro_batch, world)
            statistics = _statistics(policy, rows, mine, world)
            old_logp_M = _sampled_or(statistics.logp_M.cpu(), rows.sequences)
        own.append(replace(rows, sequences=replace(rows.sequences, old_logp_M=old_logp_M)))
    return own


def _sampled_or(logp_M: Tensor, sequences: Sequences) -> Tensor:
    """`logp_M` of what was sampled; of demonstrations what stands in the engine's place."""
    return torch.where(sequences.sampled_S[sequences.sequence_M], logp_M, sequences.rollout_logp_M)


def _weights_over_all(policy: Policy, rows: Rows, mine: Share, world: World) -> Tensor | None:
    """The weights of all rows, where an algorithm compares tokens across the micro-batches; else None."""
    if len(mine.batches) == world.size == 1 or not any(algorithm.whole_batch for algorithm in rows.algorithms):
        return None
    return _weights(rows.to(policy.device, policy.dtype), _statistics(policy, rows, mine, world))


def _statistics(policy: Policy, rows: Rows, mine: Share, world: World) -> TokenStatistics:
    """Of the tokens in every rank's micro-batches, 0 elsewhere, without gradients."""
    tokens = int(rows.sequences.completion_S.sum())
    logp_M = torch.zeros(tokens, device=policy.device, dtype=policy.dtype)
    entropy_M = torch.zeros_like(logp_M)
    with torch.no_grad():
        for batch in mine.batches:
            here_M = rows.sequences.completion_tokens(batch.indices_P).to(policy.device)
            statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
            logp_M[here_M], entropy_M[here_M] = statistics.logp_M, statistics.entropy_M
        for batch in mine.idle:
            policy(batch.to(policy.device, policy.dtype))
    return TokenStatistics(world.sum(logp_M), world.sum(entropy_M), None)


def _weights(rows: Rows, statistics: TokenStatistics) -> Tensor:
    """Each token's weight w under its row's algorithm. f[N]."""
    token_N, known = rows.token_N, rows.sequences
    logp_M = statistics.logp_M.detach()
    by_token = {
        "logp": logp_M,
        "entropy": statistics.entropy_M.detach(),
        "rollout_logp": _sampled_or(logp_M, known) if known.old_logp_M is None else known.old_logp_M,
        "engine_logp": known.rollout_logp_M,
        "reference_logp": known.reference_logp_M,
    }
    by_row = {name: None if values_M is None else values_M[token_N] for name, values_M in by_token.items()}
    return weigh(
        rows.algorithms, rows.algorithm_R, rows.question_R, rows.length_R, {**by_row, "advantages": rows.advantage_N}
    )


def _loss(rows: Rows, statistics: TokenStatistics, weights_N: Tensor) -> Tensor:
    """−Σ sg(W)·log π_θ, W the sum over a token's rows of c·w (Eq. 6, 13), less the entropy bonus. Scalar."""
    coefficient_N, token_N = rows.coefficient_R[rows.row_N], rows.token_N
    weights_M = torch.zeros_like(statistics.logp_M).index_add(0, token_N, coefficient_N * weights_N)
    loss = surrogate(statistics.logp_M[None], weights_M[None], weights_M.new_ones(1))
    bonus_R = coefficient_N.new_tensor([each.entropy_coefficient for each in rows.algorithms])[rows.algorithm_R]
    if bonus_R.any():
        bonus_M = torch.zeros_like(weights_M).index_add(0, token_N, coefficient_N * bonus_R[rows.row_N])
        loss = loss - (bonus_M * statistics.entropy_M).sum()
    return loss


def _value_loss(rows: Rows, statistics: TokenStatistics, value: ValueConfig) -> Tensor:
    """Of the value head, over the tokens that have a return to predict. Scalar."""
    if statistics.values_M is None or rows.returns_N is None or rows.sequences.values_M is None:
        return statistics.logp_M.new_zeros(())
    predicts_N = ~rows.returns_N.isnan()
    token_N = rows.token_N[predicts_N]
    losses = clipped_value_loss(
        statistics.values_M[token_N], rows.sequences.values_M[token_N], rows.returns_N[predicts_N], value.clip
    )
    return value.coefficient * (losses * rows.coefficient_R[rows.row_N][predicts_N]).sum()
