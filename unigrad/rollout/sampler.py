"""From logits to tokens: what one sampling step computes for a batch of rows.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from unigrad.rollout.sampling import Sampling

# Rows are sampled in parts of so many logits: on a CPU so few that the temporaries stay in its cache (3.5 times faster
# than all rows at once), elsewhere as many as memory should bear.
_PART_CPU, _PART = 2**18, 2**24
# A sort of the vocabulary costs several times a small model's forward; most nuclei are smaller than this.
_NUCLEUS_GUESS = 512
NOT_FINITE = "the model's logits are not finite: its weights, or its compute type, have overflowed"
# 53 bits are exact in float64, and the sum of the probabilities stays below 2^53.
_GRID = 2.0**52
_BLOCK = 256


def trajectory_generator(seed: int, key: str, index: int) -> np.random.Generator:
    """The random numbers of sample `index` of the prompt `key`, one to be drawn for each token.

    Counter-based (Philox, keyed by a 128-bit hash of the arguments), so that they depend on nothing else.
    """
    digest = hashlib.blake2b(f"{seed} {index} {key}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def draw(
    logits_BV: Tensor, sampling: Sampling, uniforms_B: Tensor, cut_B: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample a token for each row.

    Args:
        logits_BV: the model's logits, of any floating type.
        sampling: temperature, top_k and top_p are read.
        uniforms_B: float64 on the CPU, in [0, 1).
        cut_B: where given, filled with the probability mass that top_k and top_p keep from being sampled.

    Returns:
        The tokens (int64), their log-probs and the entropies in nats (float32), each [B] and on the CPU. Log-prob and
        entropy are those of the whole softmax at the temperature (at 1 where sampling is greedy).

    Raises:
        FloatingPointError: the logits hold NaN or +inf.
    """
    rows = max(1, (_PART_CPU if logits_BV.device.type == "cpu" else _PART) // logits_BV.shape[1])
    cut_B = torch.empty(len(logits_BV)) if cut_B is None else cut_B
    places = [slice(start, start + rows) for start in range(0, len(logits_BV), rows)]
    parts = [_draw(logits_BV[place], sampling, uniforms_B[place], cut_B[place]) for place in places]
    tokens, logps, entropies = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, logps, entropies


def _draw(logits_BV: Tensor, sampling: Sampling, uniforms_B: Tensor, cut_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits_BV = logits_BV.float()
    if sampling.temperature > 0:
        logits_BV = logits_BV / sampling.temperature
    logp_BV = logits_BV.log_softmax(-1)
    probs_BV = logp_BV.exp()
    # 0·(-inf) would be NaN for tokens that the model rules out; with a finite factor it is 0.
    logp_BV.clamp_(min=torch.finfo(torch.float32).min)
    entropy_B = -torch.linalg.vecdot(probs_BV, logp_BV).cpu()
    if not bool(entropy_B.isfinite().all()):
        raise FloatingPointError(NOT_FINITE)
    if sampling.is_truncated:
        whole_B = probs_BV.sum(-1)
        probs_BV = keep_top(probs_BV, sampling.top_k, sampling.top_p)
        cut_B.copy_((1 - probs_BV.sum(-1) / whole_B).clamp(min=0))
    else:
        cut_B.zero_()
    tokens_B = inverse_cdf(probs_BV, uniforms_B) if sampling.temperature > 0 else logp_BV.argmax(-1)
    return tokens_B.cpu(), logp_BV.gather(-1, tokens_B[:, None])[:, 0].cpu(), entropy_B


def keep_top(probs_BV: Tensor, top_k: int, top_p: float) -> Tensor:
    """f[B, V]: `probs_BV` with 0 for each token outside the top-k set and, within that, outside the nucleus.

    The nucleus is the smallest set of the likeliest tokens whose share of the mass that top-k left reaches `top_p`; it
    holds at least one. The result is not renormalised.
    """
    vocabulary = probs_BV.shape[1]
    if 0 < top_k < vocabulary:
        top_BK, index_BK = probs_BV.topk(top_k)
        probs_BV = torch.zeros_like(probs_BV).scatter_(1, index_BK, top_BK)
    if top_p < 1:
        probs_BV = _nucleus(probs_BV, top_p, min(_NUCLEUS_GUESS, vocabulary))
    return probs_BV


def _nucleus(probs_BV: Tensor, top_p: float, count: int) -> Tensor:
    """Keep the nucleus, looked for among the `count` likeliest tokens and, where it is larger, among all."""
    # Never 0, which a tiny share would round to: the likeliest token always stays.
    goal_B1 = (top_p * probs_BV.sum(-1, keepdim=True)).clamp(min=torch.finfo(probs_BV.dtype).tiny)
    top_BK, index_BK = probs_BV.topk(count)
    mass_BK = top_BK.cumsum(-1)
    # Back in the order of the vocabulary: two tokens that change ranks by rounding must not change the draw.
    kept_BV = torch.zeros_like(probs_BV).scatter_(1, index_BK, top_BK.where(mass_BK - top_BK < goal_B1, 0))
    larger_B = mass_BK[:, -1] < goal_B1[:, 0]
    if count < probs_BV.shape[1] and bool(larger_B.any()):
        kept_BV[larger_B] = _nucleus(probs_BV[larger_B], top_p, probs_BV.shape[1])
    return kept_BV


def inverse_cdf(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """i[B]: the token at which each row's cumulated weights pass its uniform number (float64, on the CPU).

    The weights are at most 1, sum to at most about 1, and need no normalisation. They are rounded down to a grid of
    2^-52: sums of integers are exact in any order, so the cumulated weights are monotone on every device, and a token
    of weight zero, or one past the end, is never picked.
    """
    rows, vocabulary = weights_BV.shape
    block = min(_BLOCK, vocabulary)
    blocks_BKC = weights_BV.new_empty(rows, -(-vocabulary // block), block, dtype=torch.int64)
    padded_BL = blocks_BKC.flatten(1)
    padded_BL[:, :vocabulary] = weights_BV * _GRID
    padded_BL[:, vocabulary:] = 0
    # First the block, then the token within it: to sum all tokens takes a fraction of the time of cumulating them.
    ends_BK = blocks_BKC.sum(-1).cumsum(-1)
    targets_B1 = (uniforms_B * ends_BK[:, -1].cpu().double()).long()[:, None].to(weights_BV.device)
    block_B1 = torch.searchsorted(ends_BK, targets_B1, right=True)
    within_BC = blocks_BKC.take_along_dim(block_B1[..., None], 1)[:, 0].cumsum(-1)
    targets_B1 -= ends_BK.gather(1, block_B1) - within_BC[:, -1:]
    return (block_B1 * block + torch.searchsorted(within_BC, targets_B1, right=True))[:, 0]
