from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.policy import Policy
from unigrad.runs.checkpoints import Position
from unigrad.train import checkpoint


def small_policy() -> Policy:
    config = LlamaConfig(
        vocab_size=5, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=8,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    return Policy(LlamaForCausalLM(config), tokenizer)


def test_moments_and_value_head_come_back(tmp_path: Path) -> None:
    policy = small_policy()
    policy.add_value_head()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    position = Position(step=3, tokens=500, stage=1)
    checkpoint.write_state(tmp_path, optimizer, policy, position)

    again = small_policy()
    again.add_value_head()
    fresh = torch.optim.AdamW(again.parameters(), lr=0.1)
    assert checkpoint.load_state(tmp_path, fresh, again) == position
    assert policy.value_head is not None
    assert again.value_head is not None
    assert torch.equal(policy.value_head.linear.weight, again.value_head.linear.weight)
    assert policy.value_head.linear.weight.abs().min() > 0
    for old, new in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert torch.equal(old["exp_avg"], new["exp_avg"])
        assert torch.equal(old["exp_avg_sq"], new["exp_avg_sq"])
