"""A packed row under the kernels for rows of varying length, as far as a CPU goes: flash attention with the borders
that transformers gives its kernel, and flex attention without being compiled, forward only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, PreTrainedTokenizerFast
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_flash_attention_utils import _is_packed_sequence, prepare_fa_kwargs_from_position_ids

from unigrad.batch import Layout, Sequences, laid_out, micro_batch_of
from unigrad.policy import Policy
from unigrad.policy.layouts import costs_of

# Of one token in all but for the last, which nothing comes after, of one prompt, and of like lengths.
ROWS = [([3], [5]), ([3, 1, 4], [1, 5, 9, 2]), ([3, 1, 4], [6]), ([2], [7, 1, 8]), ([9, 9], [8, 1, 2, 3, 4, 5, 6])]
SEQUENCES = Sequences.of_ids(ROWS, [1.0] * len(ROWS))
INPUTS = [len(prompt) + len(completion) - 1 for prompt, completion in ROWS]
BORDERS = torch.tensor([0, *INPUTS]).cumsum(0).tolist()
NAME = "flash_attention_in_torch"
ATTENTION = "_attn_implementation"


class InTorch:
    """What transformers does with a row for flash attention, and torch's own attention in place of its kernel."""

    def __init__(self) -> None:
        self.borders: list[list[int]] = []

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, None]:
        if attention_mask is not None:
            raise ValueError("a mask takes another way")
        borders = [0, query.shape[2]]
        if _is_packed_sequence(given["position_ids"], query.shape[0]):
            (starts, _), _ = prepare_fa_kwargs_from_position_ids(given["position_ids"])
            borders = starts.tolist()
            self.borders.append(borders)
        parts = []
        for first, last in pairwise(borders):
            part = (each[:, :, first:last] for each in (query, key, value))
            parts.append(scaled_dot_product_attention(*part, is_causal=True, scale=given["scaling"], enable_gqa=True))
        return torch.cat(parts, 2).transpose(1, 2), None


@pytest.fixture
def policy(tiny_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast) -> Policy:
    return Policy(tiny_model("llama").double(), tokenizer, compute_dtype=torch.float64)


def logprobs(policy: Policy, layout: Layout) -> Tensor:
    batch = micro_batch_of(SEQUENCES, [range(len(ROWS))], layout)
    assert batch.indices_P.tolist() == list(range(len(ROWS)))
    logp_M: Tensor = policy(batch).logp_M
    return logp_M


def gradients(policy: Policy, layout: Layout) -> tuple[Tensor, ...]:
    logp_M = logprobs(policy, layout)
    return torch.autograd.grad((logp_M * torch.linspace(-1, 2, len(logp_M))).sum(), list(policy.parameters()))


def test_flash_attention_meets_each_trajectory_alone(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    own = logprobs(policy, "padded"), *gradients(policy, "padded")
    kernel = InTorch()
    AttentionInterface.register(NAME, kernel)
    AttentionMaskInterface.register(NAME, flash_attention_mask)
    # Its own setter would look for a kernel by this name.
    monkeypatch.setattr(
        type(policy.model), "set_attn_implementation", lambda model, name: setattr(model.config, ATTENTION, name)
    )
    policy.model.set_attn_implementation(NAME)
    found = logprobs(policy, "packed"), *gradients(policy, "packed")
    torch.testing.assert_close(found, own, rtol=1e-6, atol=1e-6)
    assert kernel.borders == [BORDERS] * 2 * policy.model.config.num_hidden_layers

    policy.costs = costs_of(policy)
    assert policy.costs.packs_exactly
    assert [batch.layout for batch in laid_out(SEQUENCES, range(len(ROWS)), 1000, policy.costs)] == ["packed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of itself
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_meets_each_trajectory_alone(policy: Policy) -> None:
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        own = logprobs(policy, "padded")
        policy.model.set_attn_implementation("flex_attention")
        torch.testing.assert_close(logprobs(policy, "packed"), own, rtol=1e-6, atol=1e-6)
        costs = costs_of(policy)
    assert costs.packs_exactly
    assert "packed" in costs.layouts
