"""The one surrogate behind every algorithm, and the normalisers that turn token sums into a loss.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unigrad.options import Aggregation


def normaliser(
    lengths: Tensor, aggregation: Aggregation, *, denominator: float | None = None, constant_length: int
) -> Tensor:
    """What a row's token sum is multiplied with: f[B] from its token counts `lengths` [B].

    token_mean      1 / tokens of the batch            (DAPO; verl's `token-mean`)
    sequence_mean   1 / (rows · own tokens)            (Eq. 16; TRL's and verl's `grpo`)
    constant        1 / (rows · `constant_length`)     (Dr. GRPO as in TRL and oat)
    token_sum       1 / rows                           (Eq. 11)

    denominator: the tokens (`token_mean`) or rows (else) of the WHOLE batch; None where `lengths` is that. A row
    without tokens counts as a row (TRL's convention; verl leaves it out).
    """
    lengths = lengths if lengths.is_floating_point() else lengths.to(torch.float64)
    if denominator is None:
        denominator = float(lengths.sum()) if aggregation == "token_mean" else float(lengths.numel())
    rows = torch.ones_like(lengths) / max(denominator, 1.0)
    if aggregation == "sequence_mean":
        return rows / lengths.clamp(min=1)
    if aggregation == "constant":
        return rows / constant_length
    return rows


def surrogate(logp: Tensor, weights: Tensor, coefficients: Tensor) -> Tensor:
    """−Σ_i c_i Σ_t sg(w_it)·logp_it (f[B,T], f[B,T], f[B]), of gradient −c_i·w_it at each token: Eq. 6 as a loss."""
    weighted = weights.detach() * coefficients[:, None]
    # A masked token's log-prob may be −inf or NaN padding; 0·inf would poison the sum and its gradient.
    return -(weighted * torch.where(weights == 0, 0.0, logp)).sum()


def entropy_bonus(entropy: Tensor, mask: Tensor, coefficients: Tensor) -> Tensor:
    """Σ_i c_i Σ_t mask·H_it (f[B,T], b[B,T], f[B]) with H's gradient; the loss is less it (Mnih et al., 2016)."""
    return (torch.where(mask, entropy, 0.0) * coefficients[:, None]).sum()
