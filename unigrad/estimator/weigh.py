"""The weights of rows of several algorithms that lie one after another in flat tensors.

Shapes: R rows, N tokens of all rows; of one algorithm B rows, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unigrad.estimator.algorithm import Algorithm


def weigh(
    algorithms: Sequence[Algorithm],
    algorithm_R: Tensor,
    question_R: Tensor,
    length_R: Tensor,
    statistics: Mapping[str, Tensor | None],
) -> Tensor:
    """Each token's weight w under its row's algorithm, f[N], detached.

    algorithm_R: index into `algorithms`. length_R: tokens of each row. statistics: "logp", "rollout_logp", "advantages"
    f[N], and "entropy", "reference_logp", "engine_logp" f[N] or None. Raises ValueError where an algorithm lacks one.
    """
    logp = statistics["logp"]
    assert logp is not None
    weights = torch.zeros_like(logp)
    algorithm_N = algorithm_R.repeat_interleave(length_R)
    for index, algorithm in enumerate(algorithms):
        rows, tokens = algorithm_R == index, algorithm_N == index
        lengths = length_R[rows]
        if not len(lengths):
            continue
        mask_BT = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]

        def padded(name: str, tokens: Tensor = tokens, mask_BT: Tensor = mask_BT) -> Tensor:
            values = statistics[name]
            assert values is not None
            # Both orders, of the tokens and of the True cells of the mask, are row by row.
            return values.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values[tokens].detach())

        needed = {name: padded(name) for name in algorithm.needs if statistics.get(name) is not None}
        if "groups" in algorithm.needs:
            needed["groups"] = question_R[rows]
        logp_BT, rollout_BT, advantages_BT = (padded(name) for name in ("logp", "rollout_logp", "advantages"))
        weights_BT = algorithm.weights(logp_BT, rollout_BT, advantages_BT, mask_BT, **needed)
        weights[tokens] = weights_BT[mask_BT]
    return weights
