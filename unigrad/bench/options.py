"""What `unigrad bench` measures unless told otherwise, and along what it lets the work grow."""

from __future__ import annotations

from collections.abc import Mapping

SHORT = {
    "prompts": "train.questions_per_step",
    "prompt-tokens": "data.max_prompt_length",
    "completions": "rollout.num_generations",
    "new-tokens": "rollout.max_completion_length",
    "micro-batch-tokens": "train.tokens_per_micro_batch",
}
"""The work's own options, each with the key of the configuration that it is."""
DEFAULTS = {
    "train.questions_per_step": "4",
    "data.max_prompt_length": "96",
    "rollout.num_generations": "8",
    "rollout.max_completion_length": "64",
    "rollout.max_concurrent_tokens": "1048576",
    "method.name": "grpo",
}
FIXED = {
    **DEFAULTS,
    "data.eval": "null",
    "data.prompt_template": "{problem}",
    "data.apply_chat_template": "false",
    "train.eval_steps": "0",
    "train.save_steps": "0",
    "train.tensorboard": "false",
    "train.save_token_logprobs": "false",
}
"""The configuration under what is given."""
SECTIONS = ("model", "rollout", "verify", "method", "algorithm", "value", "train")
"""Whose keys may be given as well; the others are of problems, which a benchmark makes up."""
LEAST_PROMPT = 8
"""Tokens: whatever a tokenizer puts around an empty prompt must fit."""
LEAST_VOCABULARY = 128
"""Tokens: no less than the embedded tokenizer has."""

AXES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "completions": ("rollout.num_generations", (4, 8, 16, 32, 64)),
    "response": ("rollout.max_completion_length", (32, 64, 128, 256, 512, 1024)),
    "prompt": ("data.max_prompt_length", (64, 128, 256, 512, 1024, 2048)),
    "vocabulary": ("", (8192, 16384, 32768, 65536, 151936)),
    "model": ("", ()),
}
"""By what --growth names: the key that grows, "" where it is a size of the model, and its values. Those of the model
are layers, by default from a quarter of its own to four times as many."""
