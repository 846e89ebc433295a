from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.policy import Policy
from unigrad.train import checkpoint


def small_policy() -> Policy:
    config = LlamaConfig(
        vocab_size=5, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=8,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    return Policy(LlamaForCausalLM(config), tokenizer)


def save(run: Path, step: int) -> None:
    policy = small_policy()
    optimizer = torch.optim.AdamW(policy.parameters())

    def write(folder: Path) -> None:
        checkpoint.write_state(folder, optimizer, policy, checkpoint.Position(step))

    checkpoint.write_atomically(run / f"checkpoint-{step}", write, 0)


def test_checkpoints_are_found_by_step_and_pruned_oldest_first(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        save(tmp_path, step)
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [2, 9, 10]
    checkpoint.prune(tmp_path, keep=2)
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [9, 10]
    checkpoint.prune(tmp_path, keep=None)
    assert len(checkpoint.checkpoints(tmp_path)) == 2


def test_what_an_interrupted_save_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".checkpoint-2.partial").mkdir()
    (tmp_path / "checkpoint-3").mkdir()  # copied by hand, and not to the end
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [1]
    checkpoint.prune(tmp_path, keep=1)
    assert not (tmp_path / ".checkpoint-2.partial").exists()


def test_a_failing_write_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(checkpoint.NoSpace, match="no space left while saving"):
        checkpoint.write_atomically(tmp_path / "checkpoint-2", fail, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1"]


def test_too_little_space_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.NoSpace, match="MiB are free"):
        checkpoint.write_atomically(tmp_path / "checkpoint-1", lambda folder: None, 2**70)
    assert list(tmp_path.iterdir()) == []


def test_moments_and_value_head_come_back(tmp_path: Path) -> None:
    policy = small_policy()
    policy.add_value_head()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    position = checkpoint.Position(step=3, tokens=500, stage=1)
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
