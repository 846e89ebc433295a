"""Log-probabilities and exact entropies of tokens, straight from hidden states, a chunk of tokens at a time.

The backward pass recomputes each chunk's logits where all of them together would take much memory, and keeps them where
not. Shape suffixes: N tokens, V vocabulary, D hidden size, C tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unigrad.policy.head import IDENTITY, LogitTransform
from unigrad.policy.products import add_outer_, linear

CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**28}
"""What one chunk's logits may take: enough of them for a matrix product to be worth its call."""
KEPT_BYTES = {"cpu": 2**28, "cuda": 2**28}
"""What may be kept of all chunks together, so that the output embedding is multiplied with once instead of twice."""


def token_logprobs(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    transform: LogitTransform = IDENTITY,
    temperature_N: Tensor | None = None,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log p[target] and the entropy -Σ p log p in nats, where p = softmax(f(hidden W^T + bias) / temperature).

    The logits are computed in autocast's dtype where autocast is on, else in that of `hidden_ND`, as `nn.Linear` would;
    everything after them in float32 (float64 for float64). Both results are differentiable once with respect to
    hidden, weight and bias; the temperature is a constant.

    Args:
        hidden_ND: hidden states that predict the targets.
        weight_VD: output embedding; its dtype may differ from that of the hidden states.
        targets_N: int64 token ids.
        bias_V: bias of the output embedding.
        transform: f, what the model does to its logits.
        temperature_N: positive sampling temperature of each token; None is 1 everywhere.
        chunk_tokens: how many tokens' logits exist at a time; None: the power of two that `CHUNK_BYTES` holds.

    Returns:
        (logp_N, entropy_N), float32 or float64.

    Raises:
        ValueError: shapes that do not fit together, or a chunk of no tokens.
    """
    if hidden_ND.ndim != 2 or weight_VD.ndim != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise ValueError(
            f"hidden states and weight must be [N, D] and [V, D], not {[*hidden_ND.shape]} and {[*weight_VD.shape]}"
        )
    per_token = {"targets": targets_N, "temperature": temperature_N}
    for name, tensor in per_token.items():
        if tensor is not None and tensor.shape != hidden_ND.shape[:1]:
            raise ValueError(f"{name} must be [{hidden_ND.shape[0]}], one for each hidden state, not {[*tensor.shape]}")
    if bias_V is not None and bias_V.shape != weight_VD.shape[:1]:
        raise ValueError(f"bias must be [{weight_VD.shape[0]}], one for each row of weight, not {[*bias_V.shape]}")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
    logits_dtype = _logits_dtype(hidden_ND)
    token_bytes = weight_VD.shape[0] * torch.promote_types(logits_dtype, torch.float32).itemsize
    if chunk_tokens is None:
        # A power of two, which is a block of rows to whatever multiplies.
        chunk_tokens = 2 ** (max(1, _on(CHUNK_BYTES, hidden_ND) // token_bytes).bit_length() - 1)
    keeps = torch.is_grad_enabled() and len(hidden_ND) * token_bytes <= _on(KEPT_BYTES, hidden_ND)
    logp_N, entropy_N = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, temperature_N, transform, chunk_tokens, logits_dtype, keeps
    )
    return logp_N, entropy_N


def _on(bytes_by_device: Mapping[str, int], tensor: Tensor) -> int:
    return bytes_by_device.get(tensor.device.type, bytes_by_device["cpu"])


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        temperature_N: Tensor | None,
        transform: LogitTransform,
        chunk_tokens: int,
        logits_dtype: torch.dtype,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        result_dtype = torch.promote_types(logits_dtype, torch.float32)
        logp_N = hidden_ND.new_empty(hidden_ND.shape[0], dtype=result_dtype)
        entropy_N, normalizer_N = torch.empty_like(logp_N), torch.empty_like(logp_N)
        kept: list[Tensor] = []
        with torch.autocast(hidden_ND.device.type, enabled=False):
            head = _Head(weight_VD, bias_V, transform, logits_dtype)
            for chunk in _chunks(hidden_ND.shape[0], chunk_tokens):
                temperature_C = None if temperature_N is None else temperature_N[chunk]
                logp_CV, p_CV, normalizer_N[chunk] = head.softmax(hidden_ND[chunk], temperature_C)
                logp_N[chunk] = logp_CV.gather(1, targets_N[chunk, None])[:, 0]
                entropy_N[chunk] = p_CV.mul_(logp_CV).sum(-1).neg_()
                kept += [logp_CV] if keeps else []
                del logp_CV, p_CV  # else they would live on while the next chunk's are made
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, temperature_N, entropy_N, normalizer_N, *kept)
        ctx.transform = transform
        ctx.chunk_tokens = chunk_tokens
        ctx.logits_dtype = logits_dtype
        ctx.set_materialize_grads(False)
        return logp_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logp_N: Tensor | None, grad_entropy_N: Tensor | None) -> tuple[Tensor | None, ...]:
        """d logp/d y_j = [j = target] - p_j and d H/d y_j = -p_j (log p_j + H) for y = f(z) / temperature, and then
        f'(z) / temperature; nothing for tokens of gradient 0."""
        hidden_ND, weight_VD, bias_V, targets_N, temperature_N, entropy_N, normalizer_N, *kept = ctx.saved_tensors
        if grad_logp_N is None and grad_entropy_N is None:
            return (None,) * 9
        if grad_logp_N is None:
            grad_logp_N = torch.zeros_like(entropy_N)
        matters_N = grad_logp_N != 0 if grad_entropy_N is None else (grad_logp_N != 0) | (grad_entropy_N != 0)
        hidden_needs, weight_needs, bias_needs = ctx.needs_input_grad[:3]
        grad_hidden_ND = torch.zeros_like(hidden_ND) if hidden_needs else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=entropy_N.dtype) if weight_needs else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=entropy_N.dtype) if bias_needs else None
        with torch.autocast(hidden_ND.device.type, enabled=False):
            head = _Head(weight_VD, bias_V, ctx.transform, ctx.logits_dtype)
            for number, chunk in enumerate(_chunks(hidden_ND.shape[0], ctx.chunk_tokens)):
                inside_C = matters_N[chunk].nonzero()[:, 0]
                token_C = inside_C + chunk.start
                if not len(token_C):
                    continue
                hidden_CD, temperature_C = hidden_ND[token_C], None if temperature_N is None else temperature_N[token_C]
                if kept:
                    whole = len(inside_C) == len(kept[number])
                    logp_CV = kept[number] if whole else kept[number][inside_C]
                    p_CV = logp_CV.exp()
                else:
                    logp_CV, p_CV, _ = head.softmax(hidden_CD, temperature_C)
                grad_logp_C1 = grad_logp_N[token_C, None]
                if grad_entropy_N is None:
                    grad_CV = p_CV.mul_(-grad_logp_C1)
                else:
                    rate_CV = (logp_CV + entropy_N[token_C, None]).mul_(grad_entropy_N[token_C, None])
                    grad_CV = p_CV.mul_(rate_CV.add_(grad_logp_C1)).neg_()
                    del rate_CV
                grad_CV.scatter_add_(1, targets_N[token_C, None], grad_logp_C1)
                head.backward_(grad_CV, logp_CV, normalizer_N[token_C], temperature_C)
                if grad_bias_V is not None:
                    grad_bias_V += grad_CV.sum(0)
                del logp_CV, p_CV
                grad_CV = grad_CV.to(ctx.logits_dtype)
                if grad_hidden_ND is not None:
                    grad_hidden_ND[token_C] = linear(grad_CV, head.weight_VD.T).to(grad_hidden_ND.dtype)
                if grad_weight_VD is not None:
                    add_outer_(grad_weight_VD, grad_CV, hidden_CD.to(ctx.logits_dtype))
                del grad_CV
        return (
            grad_hidden_ND,
            None if grad_weight_VD is None else grad_weight_VD.to(weight_VD.dtype),
            None if grad_bias_V is None else grad_bias_V.to(bias_V.dtype),
            *(None,) * 6,
        )


class _Head:
    """The output embedding in the dtype of the logits, cast once for all chunks, and what comes after it."""

    def __init__(
        self, weight_VD: Tensor, bias_V: Tensor | None, transform: LogitTransform, logits_dtype: torch.dtype
    ) -> None:
        self.weight_VD = weight_VD.to(logits_dtype)
        self.bias_V = None if bias_V is None else bias_V.to(logits_dtype)
        self._transform = transform

    def softmax(self, hidden_CD: Tensor, temperature_C: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(log p, p, log Σ exp) of one chunk: two buffers of C x V, one exp; nothing overflows once the maximum is
        subtracted."""
        logits_CV = linear(hidden_CD.to(self.weight_VD.dtype), self.weight_VD, self.bias_V)
        logits_CV = self._transform.apply_(logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32)))
        if temperature_C is not None:
            logits_CV.div_(temperature_C[:, None])
        maximum_C1 = logits_CV.amax(-1, keepdim=True)
        p_CV = logits_CV.sub_(maximum_C1).exp()
        total_C1 = p_CV.sum(-1, keepdim=True)
        log_total_C1 = total_C1.log()
        return logits_CV.sub_(log_total_C1), p_CV.div_(total_C1), (maximum_C1 + log_total_C1)[:, 0]

    def backward_(self, grad_CV: Tensor, logp_CV: Tensor, normalizer_C: Tensor, temperature_C: Tensor | None) -> None:
        """From the gradient of what softmax takes to that of the embedding's product, in place."""
        if temperature_C is not None:
            grad_CV.div_(temperature_C[:, None])
        if self._transform.is_identity:
            return
        logits_CV = logp_CV + normalizer_C[:, None]
        if temperature_C is not None:
            logits_CV.mul_(temperature_C[:, None])
        grad_CV.mul_(self._transform.derivative_(logits_CV))


def _logits_dtype(hidden_ND: Tensor) -> torch.dtype:
    device_type = hidden_ND.device.type
    if torch.is_autocast_enabled(device_type) and hidden_ND.dtype != torch.float64:
        return torch.get_autocast_dtype(device_type)
    return hidden_ND.dtype


def _chunks(num_tokens: int, chunk_tokens: int) -> Iterator[slice]:
    return (slice(start, start + chunk_tokens) for start in range(0, num_tokens, chunk_tokens))
