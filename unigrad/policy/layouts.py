"""Which layouts of a micro-batch are exact for a model, found by trying them, and what its passes cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unigrad.batch import Costs, Layout, MicroBatch, Sequences, micro_batch_of
from unigrad.policy import ragged_attention, transformers_api

if TYPE_CHECKING:
    from unigrad.policy.policy import Policy, TokenStatistics

LAYER_SECONDS = {"cpu": 4e-4, "cuda": 3e-4}
"""About what a layer's kernels take to be called, forward and backward, before they compute anything."""
FLOPS = {"cpu": 1e11, "cuda": 3e14}
"""About what a device does a second in large matrix products. Both decide between layouts alone."""
MASKED = 2.0
"""How much longer a floating-point operation of attention takes than one of a matrix product."""


def costs_of(policy: Policy) -> Costs:
    """In positions, from the model's dimensions; only layouts that gave the padded log-probs on this very model."""
    model, kind = policy.model, policy.device.type
    config = transformers_api.text_config(model.config)
    layers, heads = config.num_hidden_layers, transformers_api.widest(config, "num_attention_heads") or 1
    head_size = transformers_api.widest(config, "head_dim") or config.hidden_size // heads
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in embeddings)
    # A pass forward and backward: three products with each matrix, two operations for each of its elements.
    of_a_position = 6 * max(matrices, 1)
    call = layers * LAYER_SECONDS.get(kind, LAYER_SECONDS["cuda"]) * FLOPS.get(kind, FLOPS["cuda"]) / of_a_position
    return Costs(
        layouts=frozenset(layout for layout in _candidates(policy) if _is_exact(policy, layout)) | {"padded"},
        pair=MASKED * 12 * layers * heads * head_size / of_a_position,
        call=call,
        packs_exactly=transformers_api.packs_without_a_mask(model),
    )


def _candidates(policy: Policy) -> list[Layout]:
    model = policy.model
    # A window or a state may reach over more positions than a trial has; and positions are counted from 0 in both.
    if not transformers_api.takes_any_attention(model) or transformers_api.special_layers(model):
        return []
    if policy.first_position:
        return []
    candidates: list[Layout] = []
    if ragged_attention.takes_ragged_rows(model) or transformers_api.packs_without_a_mask(model):
        candidates.append("packed")
    # Checkpointed layers keep no keys and values; and behind prompts it is torch's attention, with any kernel.
    keeps = transformers_api.cache_argument(model) is not None and not policy.gradient_checkpointing
    if keeps and transformers_api.decoding_attention(model, None) == "sdpa":
        candidates.append("prefix")
    return candidates


def _is_exact(policy: Policy, layout: Layout) -> bool:
    """Whether ragged rows, of two prompts, have the log-probs of each alone, but for rounding."""
    vocabulary = policy.model.get_input_embeddings().weight.shape[0]
    ids = [(7 * index + 3) % vocabulary for index in range(24)]
    rows = [(ids[:3], ids[3:8]), (ids[:3], ids[9:11]), (ids[4:10], ids[12:19]), (ids[4:10], ids[20:23])]
    sequences = Sequences.of_ids(rows, [1.0] * len(rows))

    def logprobs(batch: MicroBatch) -> torch.Tensor:
        with torch.no_grad():
            statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
        return statistics.logp_M

    try:
        found = logprobs(micro_batch_of(sequences, [[0, 1], [2, 3]], layout))
    except (ValueError, RuntimeError, TypeError, IndexError, AttributeError):
        return False
    alone = torch.cat([logprobs(micro_batch_of(sequences, [[index]], "padded")) for index in range(len(rows))])
    tolerance = 64 * torch.finfo(policy.compute_dtype).eps * (1 + alone.abs().max().item())
    return (found - alone).abs().max().item() <= tolerance
