"""A longrope has other frequencies past a border, for all rows of a call: nothing that stands in one may pass it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, GPT2Config, Phi3Config, PreTrainedConfig, PreTrainedTokenizerFast

from unigrad.batch import Layout, Sequences, micro_batch_of
from unigrad.policy import Policy
from unigrad.policy.layouts import costs_of
from unigrad.rollout import Prompt, Sampling
from unigrad.rollout.engines import engine_builder

BORDER, END = 24, 39
ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [6.0] * 4, "factor": 4.0,
    "original_max_position_embeddings": BORDER,
}  # fmt: skip
PHI3 = Phi3Config(
    vocab_size=END + 1, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=96, original_max_position_embeddings=BORDER, sliding_window=None,
    rope_parameters=ROPE, initializer_range=0.3, eos_token_id=END, pad_token_id=0, bos_token_id=None,
)  # fmt: skip
GPT2 = GPT2Config(vocab_size=END + 1, n_positions=BORDER, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
# In a prefix layout the last row's completion is as wide as the first one's prompt is long.
ROWS = [
    ((3,) * 9 + (4,) * 11, (5, 6, 7)),
    ((3,) * 9 + (4,) * 11, (8, 9)),
    ((11, 12), tuple(range(13, 33))),
    ((11, 12), tuple(range(30, 9, -1))),
]


def make(config: PreTrainedConfig) -> Policy:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({f"a{i}": i for i in range(END)} | {"<end>": END}, unk_token="a0"))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Policy(model, PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>"))


def logprobs(policy: Policy, rows: list[Any], layout: Layout) -> torch.Tensor:
    groups = [[0, 1], [2, 3]] if len(rows) == 4 else [[0]]
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * len(rows)), groups, layout)
    with torch.no_grad():
        return policy(batch).logp_M


@pytest.mark.parametrize("layout", ["padded", "packed", "prefix"])
@pytest.mark.parametrize("config", [PHI3, GPT2], ids=["longrope", "learned positions"])
def test_a_row_has_its_own_log_probs_in_every_layout(config: PreTrainedConfig, layout: Layout) -> None:
    policy = make(config)
    assert policy.max_positions == BORDER
    assert layout in costs_of(policy).layouts
    alone = []
    for prompt, completion in ROWS:
        ids_1L = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            logits_LV = policy.model(input_ids=ids_1L[:, :-1], use_cache=False).logits[0, len(prompt) - 1 :]
        alone.append(logits_LV.log_softmax(-1).gather(1, ids_1L[0, len(prompt) :, None])[:, 0])
    found = logprobs(policy, ROWS, layout)
    torch.testing.assert_close(found, torch.cat(alone), rtol=0, atol=1e-5)


def test_past_the_border_the_frequencies_do_differ() -> None:
    """What the other tests would not notice else."""
    policy = make(PHI3)
    ids_1L = torch.arange(1, BORDER + 2)[None]
    with torch.no_grad():
        beyond, within = (policy.model(input_ids=ids_1L[:, :n], use_cache=False).logits[0, 9] for n in (25, 24))
    assert (beyond - within).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"2 \+ 23 tokens do not fit the model's context of 24"):
        logprobs(policy, [((1, 2), (3,) * 23)], "padded")


def test_rollouts_up_to_the_border_are_what_trains_and_what_generate_gives() -> None:
    policy = make(PHI3)
    engine = engine_builder("torch")(policy, 2 * BORDER)
    prompts = [Prompt("long", tuple(range(1, 21))), Prompt("short", (9, 3))]
    groups = engine.generate(prompts, Sampling(num_generations=2, max_completion_length=60), 0)
    assert max(len(each.token_ids) for each in groups[1]) == BORDER - 2
    for prompt, group in zip(prompts, groups, strict=True):
        for each in group:
            found = logprobs(policy, [(prompt.token_ids, each.token_ids)], "padded")
            torch.testing.assert_close(torch.tensor(each.logprobs), found, rtol=0, atol=1e-5)
    greedy = engine.generate(prompts, Sampling(num_generations=1, max_completion_length=60, temperature=0.0), 0)
    for prompt, (each,) in zip(prompts, greedy, strict=True):
        ids = torch.tensor([prompt.token_ids])
        length = BORDER - len(prompt.token_ids)
        own = policy.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length)
        assert each.token_ids == tuple(own[0, ids.shape[1] :].tolist())
