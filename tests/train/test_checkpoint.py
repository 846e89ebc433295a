from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    optimizer = small_optimizer()
    checkpoint.write_state(tmp_path, optimizer, small_policy(), Position(step=3, tokens=500, stage=1))
    checkpoint.load_state(tmp_path, small_optimizer(), small_policy())
    return tmp_path / checkpoint.OPTIMIZER_FILE


def small_optimizer() -> torch.optim.Optimizer:
    policy = small_policy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def refusal(file: Path) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as raised:
        checkpoint.load_state(file.parent, small_optimizer(), small_policy())
    assert str(raised.value).startswith(str(file))
    return str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", bytes(4000)])
def test_what_is_no_file_of_tensors_is_one_line(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    assert "is not read" in refusal(saved)


def test_a_pickle_with_more_than_tensors_is_not_read(saved: Path) -> None:
    torch.save({"state": {}, "param_groups": saved}, saved)
    assert "holds more than tensors" in refusal(saved)


def change(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda loaded: loaded["state"][0].update({key: value})


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda loaded: loaded.pop("state"), "no optimizer's state"),
        (lambda loaded: loaded["state"].update({99: {}}), "not one of"),
        (lambda loaded: loaded["state"][0].pop("exp_avg_sq"), "exp_avg_sq of parameter 0"),
        (change("exp_avg", torch.zeros(2)), "exp_avg of parameter 0 is not a tensor of the shape [5, 4]"),
        (change("step", "3"), "parameter 0 has no count of its steps"),
        (lambda loaded: loaded["param_groups"][0].update(betas="ab"), "betas of its group 0"),
        (lambda loaded: loaded["param_groups"].clear(), "not 1 groups"),
    ],
)
def test_what_is_not_this_optimizers_is_one_line(
    saved: Path, harm: Callable[[dict[str, Any]], object], reason: str
) -> None:
    loaded = torch.load(saved, weights_only=True)
    harm(loaded)
    torch.save(loaded, saved)
    assert reason in refusal(saved)
