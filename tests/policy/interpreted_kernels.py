"""Liger's kernels on a CPU, by triton's interpreter, beside what they stand for; test_fused.py runs this file.

The interpreter lacks two things that the compiler has, and gets them here: a number that a kernel is called with is a
float32, and CUDA's own functions, of which Liger takes two, are in no library.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from typing import Any

import numpy as np
import torch
import triton.language as tl
from liger_kernel.ops import geglu, rms_norm
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from triton.runtime import interpreter

from unigrad.batch import Layout, Sequences, micro_batch_of
from unigrad.policy import Policy
from unigrad.policy.activations import recompute
from unigrad.policy.fused import _GeluGated, _Norm, _SiluGated, fuse

# Read where kernels are made, at import: it must have been set before.
assert interpreter.InterpretedFunction is type(rms_norm._rms_norm_forward_kernel)
as_argument = interpreter._implicit_cvt


def with_floats(given: Any) -> Any:
    if not isinstance(given, float):
        return as_argument(given)
    return tl.tensor(interpreter.TensorHandle(np.array([given], dtype=np.float32), tl.float32), tl.float32)


interpreter._implicit_cvt = with_floats
rms_norm.rsqrt = lambda x: tl.rsqrt(x)
geglu.tanh = lambda x: 2 * tl.sigmoid(2 * x) - 1

ROWS = [([3, 1, 4], [1, 5, 9, 2]), ([3, 1, 4], [6]), ([2, 7, 1, 8, 2], [8, 1])]

KERNELS = (_GeluGated, _Norm, _SiluGated)


class OddRMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = 1e-6

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.rms_norm(hidden, (hidden.shape[-1],), self.weight, self.eps).tanh()


def make(kind: str, dtype: torch.dtype, **changes: Any) -> Policy:
    torch.manual_seed(0)
    options = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return Policy(model, PreTrainedTokenizerFast.__new__(PreTrainedTokenizerFast), compute_dtype=dtype)


def passed(policy: Policy, layout: Layout) -> list[Tensor]:
    sequences = Sequences.of_ids(ROWS, [1.0] * len(ROWS))
    parts = [[0, 1], [2]] if layout == "prefix" else [[0, 1, 2]]
    found = policy(micro_batch_of(sequences, parts, layout))
    weights = torch.linspace(-1, 2, len(found.logp_M))
    parameters = [each for each in policy.parameters() if each.requires_grad]
    return [found.logp_M, *torch.autograd.grad((found.logp_M * weights).sum(), parameters)]


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(((a - b).abs().max() / (1 + a.abs().max())).item() for a, b in zip(ours, theirs, strict=True))


def compared(kind: str, dtype: torch.dtype, layout: Layout, recomputed: bool, **changes: Any) -> dict[str, Any]:
    policy = make(kind, dtype, **changes)
    plain = copy.deepcopy(policy.model)
    own = passed(policy, layout)
    fuse(policy)
    if recomputed:
        recompute(policy.model)
    changed = [a for a, b in zip(policy.model.modules(), plain.modules(), strict=True) if type(a) is not type(b)]
    return {
        "distance": distance(own, passed(policy, layout)),
        "changed": sorted({base.__name__ for each in changed for base in type(each).__mro__ if base in KERNELS}),
        "names": [type(each).__name__ for each in policy.model.modules()]
        == [type(e).__name__ for e in plain.modules()],
        "saved": list(policy.model.state_dict()) == list(plain.state_dict()),
    }


def refused() -> dict[str, Any]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("unigrad.policy.fused").addHandler(handler)
    policy = make("llama", torch.float32, hidden_act="relu")
    policy.model.model.norm = OddRMSNorm(32)
    # Past what the kernel takes in one block.
    policy.model.wide = nn.Module()
    policy.model.wide.norm = type(policy.model.model.layers[0].input_layernorm)(2**16 + 1)
    fuse(policy)
    kept = (policy.model.model.norm, policy.model.model.layers[0].mlp, policy.model.wide.norm)
    return {"lines": lines, "kept": [type(each).__module__ for each in kept]}


if __name__ == "__main__":
    full, half = torch.float32, torch.bfloat16
    found = {
        "llama": compared("llama", full, "padded", True),
        "qwen3, from shared prompts": compared("qwen3", full, "prefix", True),
        "gemma": compared("gemma", full, "padded", False, hidden_act="gelu_pytorch_tanh"),
        "bfloat16": compared("llama", half, "padded", True),
        "refused": refused(),
    }
    json.dump(found, sys.stdout)
