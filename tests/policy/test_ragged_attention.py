"""Attention over flat rows of unequal length, against each row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from unigrad.batch import Layout, Prefix, Ragged, Sequences, micro_batch_of
from unigrad.policy import Policy, ragged_attention, transformers_api
from unigrad.policy.layouts import costs_of

Build = Callable[..., PreTrainedModel]

HEADS, SIZE = 4, 3


class Module(nn.Module):
    """What the kernel asks of a model's attention."""

    is_causal = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


def flat(heads: int, tokens: int) -> Tensor:
    return torch.randn(1, tokens, heads, SIZE, dtype=torch.float64).transpose(1, 2).requires_grad_()


def alone(query: Tensor, key: Tensor, value: Tensor, groups: int, behind: int = 0) -> Tensor:
    """One row, [1, H, N, D], after so many keys that all of it sees."""
    seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(behind)
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.4).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, groups: int, **given: Any) -> Tensor:
    kernel = transformers_api.transformers.AttentionInterface()[ragged_attention.KERNEL]
    # In place of a mask what a model is given for one.
    found: Tensor = kernel(
        Module(groups), query, key, value, given.pop("attention_mask"), dropout=0.0, scaling=0.4, **given
    )[0]
    return found


def parts(flat_1HND: Tensor, lengths: Sequence[int]) -> tuple[Tensor, ...]:
    return flat_1HND.split(list(lengths), 2)


def same(found: Tensor, want: Tensor, inputs: Sequence[Tensor]) -> None:
    weights = torch.randn_like(want)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-14)
    gradients = (torch.autograd.grad((each * weights).sum(), inputs, retain_graph=True) for each in (found, want))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (4,), (2, 5, 1, 3), (6, 6)])
def test_each_row_attends_to_itself_alone(lengths: tuple[int, ...], groups: int) -> None:
    total = sum(lengths)
    query, key, value = flat(HEADS, total), flat(HEADS // groups, total), flat(HEADS // groups, total)
    given = ragged_attention.arguments(Ragged.of(torch.tensor(lengths)))
    rows = zip(*(parts(each, lengths) for each in (query, key, value)), strict=True)
    want = torch.cat([alone(*row, groups) for row in rows], 1)
    same(attend(query, key, value, groups, **given), want, (query, key, value))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shared", [(4, 4), (1, 5)])
@pytest.mark.parametrize(("rests", "prompts"), [((1, 1, 1), (0, 1, 1)), ((3, 1, 4, 2), (0, 0, 1, 0)), ((2, 7), (1, 0))])
def test_rows_attend_to_their_prompt_and_themselves(
    rests: tuple[int, ...], prompts: tuple[int, ...], shared: tuple[int, int], groups: int
) -> None:
    prompt_P, shared_Q = torch.tensor(prompts), torch.tensor(shared)
    prefix = Prefix(
        input_ids_1K=torch.zeros(1, sum(shared), dtype=torch.int64),
        position_ids_1K=torch.zeros(1, sum(shared), dtype=torch.int64),
        ragged=Ragged.of(shared_Q),
        prompt_P=prompt_P,
        shared_P=shared_Q[:1] if shared[0] == shared[1] else shared_Q[prompt_P],
    )
    heads = HEADS // groups
    before, rows = [flat(heads, sum(shared)) for _ in range(2)], [flat(heads, sum(rests)) for _ in range(2)]
    query, ragged = flat(HEADS, sum(rests)), Ragged.of(torch.tensor(rests))

    cache = ragged_attention.PromptCache(1, prefix)
    cache.update(*before, 0)
    cache.begin_rows(ragged)
    key, value = cache.update(*rows, 0)
    given = ragged_attention.arguments(ragged, ragged_attention.seen_behind(prefix, ragged))
    found = attend(query, key, value, groups, **given)

    whole = []
    for own, prompt, *row in zip(parts(query, rests), prompts, *(parts(each, rests) for each in rows), strict=True):
        joined = (torch.cat((parts(b, shared)[prompt], r), 2) for b, r in zip(before, row, strict=True))
        whole.append(alone(own, *joined, groups, behind=shared[prompt]))
    same(found, torch.cat(whole, 1), (query, *before, *rows))


def test_without_ragged_rows_it_is_torchs_own() -> None:
    query, key, value = (flat(HEADS, 5) for _ in range(3))
    assert torch.equal(attend(query, key, value, 1, attention_mask=None), alone(query, key, value, 1))


ROWS = [([3, 1, 4], [1, 5, 9, 2]), ([3, 1, 4], [6]), ([2, 7], [7, 1, 8]), ([2, 7], [8, 1, 2, 3, 4, 5, 6])]
SEQUENCES = Sequences.of_ids(ROWS, [1.0] * len(ROWS))


def gradients(policy: Policy, layout: Layout) -> tuple[Tensor, ...]:
    batch = micro_batch_of(SEQUENCES, [[0, 1], [2, 3]], layout)
    logp_M: Tensor = policy(batch).logp_M
    return logp_M, *torch.autograd.grad((logp_M * torch.linspace(-1, 2, len(logp_M))).sum(), list(policy.parameters()))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "granite", "cohere"])
@pytest.mark.parametrize("layout", ["packed", "prefix"])
def test_nothing_but_attention_is_filled_up(
    architecture: str, layout: Layout, tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = Policy(tiny_model(architecture).double(), tokenizer, compute_dtype=torch.float64)
    want = gradients(policy, "padded")
    seen = list[int]()
    hooks = [
        each.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:-1].numel()))
        for block in transformers_api.blocks(policy.model)
        for each in block.modules()
        if "norm" in type(each).__name__.lower()
    ]
    torch.testing.assert_close(gradients(policy, layout), want, rtol=1e-6, atol=1e-6)
    assert hooks
    inputs = {sum(len(prompt) + len(completion) - 1 for prompt, completion in ROWS)}
    assert set(seen) == (inputs if layout == "packed" else {2 + 1, sum(len(completion) for _, completion in ROWS)})


def test_layers_that_compute_again_attend_as_they_did(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model("llama").double()
    want = gradients(Policy(model, tokenizer, compute_dtype=torch.float64), "padded")
    again = Policy(model, tokenizer, compute_dtype=torch.float64, gradient_checkpointing=True)
    torch.testing.assert_close(gradients(again, "packed"), want, rtol=1e-6, atol=1e-6)


def test_what_computes_attention_otherwise_keeps_its_kernel(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model("llama")
    model.set_attn_implementation("eager")
    policy = Policy(model, tokenizer)
    assert costs_of(policy).layouts == {"padded", "prefix"}
    assert transformers_api.attention_kernel(model) == "eager"


def test_a_saved_model_names_no_kernel(tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy = Policy(tiny_model("llama"), tokenizer)
    assert transformers_api.attention_kernel(policy.model) == ragged_attention.KERNEL
    policy.save_pretrained(tmp_path)
    policy.model.save_pretrained(tmp_path / "by itself")
    for config in tmp_path.rglob("*.json"):
        assert ragged_attention.KERNEL not in config.read_text(), config


def test_in_bfloat16(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    policy = Policy(tiny_model("llama"), tokenizer, compute_dtype=torch.bfloat16)
    assert costs_of(policy).layouts == {"padded", "packed", "prefix"}
    want, *found = ([each.double() for each in gradients(policy, layout)] for layout in ("padded", "packed", "prefix"))
    for logp_M, *grads in found:
        torch.testing.assert_close(logp_M, want[0], rtol=0.02, atol=0.02)
        apart = sum(float((a - b).square().sum()) for a, b in zip(grads, want[1:], strict=True))
        assert apart < 0.02**2 * sum(float(each.square().sum()) for each in want[1:])
