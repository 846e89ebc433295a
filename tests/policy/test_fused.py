"""Liger's kernels in place of norms and gated MLPs. Where Liger is installed they run, interpreted, on CPU tensors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from unigrad.policy import Policy
from unigrad.policy.fused import fuse

HAS_LIGER = importlib.util.find_spec("liger_kernel") is not None
needs_liger = pytest.mark.skipif(not HAS_LIGER, reason="Liger is not installed: pip install 'unigrad[liger]'")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """By a process of its own: triton asks for its interpreter when it is imported."""
    script = Path(__file__).with_name("interpreted_kernels.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_liger
@pytest.mark.parametrize(
    ("case", "kernels"),
    [
        ("llama", ["_Norm", "_SiluGated"]),
        ("gemma", ["_GeluGated", "_Norm"]),
        ("qwen3, from shared prompts", ["_Norm", "_SiluGated"]),
    ],
)
def test_log_probs_and_gradients_are_the_models_own(interpreted: dict[str, Any], case: str, kernels: list[str]) -> None:
    found = interpreted[case]
    assert found["changed"] == kernels
    assert 0 < found["distance"] <= 1e-5
    assert found["names"]
    assert found["saved"]


@needs_liger
def test_a_kernel_that_is_wrong_in_the_dtype_at_hand_is_not_taken(interpreted: dict[str, Any]) -> None:
    """The interpreter multiplies two bfloat16 numbers as if they were integers."""
    assert interpreted["bfloat16"]["changed"] == ["_Norm"]
    assert interpreted["bfloat16"]["distance"] < 1e-2


@needs_liger
def test_what_no_kernel_agrees_with_stays_and_a_line_says_why(interpreted: dict[str, Any]) -> None:
    lines = interpreted["refused"]["lines"]
    assert interpreted["refused"]["kept"] == ["__main__", *["transformers.models.llama.modeling_llama"] * 2]
    assert [line.split()[0] for line in lines] == ["LlamaMLP", "OddRMSNorm", "LlamaRMSNorm"]
    assert "times the difference that rounding explains" in lines[0]
    assert "65537" in lines[2]


def test_without_liger_or_without_a_device_for_it_the_model_stays(
    tiny_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(tiny_model("llama"), tokenizer)
    kinds = [type(module) for module in policy.model.modules()]
    own = policy.model(torch.tensor([[3, 1, 4]])).logits
    fuse(policy)
    assert [type(module) for module in policy.model.modules()] == kinds
    assert torch.equal(policy.model(torch.tensor([[3, 1, 4]])).logits, own)
    assert len(caplog.records) == (2 if HAS_LIGER else 0)
