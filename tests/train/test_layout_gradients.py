"""However an update is laid out, its gradient is that of the padded layout."""

from __future__ import annotations

import sys
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

from unigrad.batch import Costs, Layout, Row, Rows, Sequences, laid_out
from unigrad.estimator import algorithm
from unigrad.policy import Policy
from unigrad.policy.layouts import costs_of

sys.path.insert(0, str(Path(__file__).parent))
from test_update import VOCABULARY, gradient, make_policy

ALGORITHMS = [algorithm(name) for name in ("grpo", "sft", "gspo")]


def layer_norm_policy() -> Policy:
    """Without RMSNorm, which transformers computes in float32 whatever the weights are: what is summed before it is
    rounded differs by 1e-8 from what is summed after."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, rotary_pct=0.5,
    )  # fmt: skip
    return Policy(GPTNeoXForCausalLM(config).double(), make_policy().tokenizer)


POLICY = layer_norm_policy()


def only(*layouts: Layout) -> Costs:
    """Costs by which what shares or packs is always cheaper."""
    return Costs(layouts=frozenset(layouts), packs_exactly=True)


@st.composite
def updates(draw: st.DrawFn) -> Rows:
    """Questions of ragged prompts and completions; rows on spans, and several on a trajectory."""
    number = st.integers(1, VOCABULARY - 1)
    groups = draw(
        st.lists(
            st.tuples(
                st.lists(number, min_size=1, max_size=6),
                st.lists(st.lists(number, min_size=1, max_size=7), min_size=1, max_size=4),
            ),
            min_size=1,
            max_size=4,
        )
    )
    pairs = [(prompt, completion) for prompt, completions in groups for completion in completions]
    questions = [index for index, (_, completions) in enumerate(groups) for _ in completions]
    temperatures = draw(st.lists(st.sampled_from([1.0, 0.7]), min_size=len(pairs), max_size=len(pairs)))
    sequences = Sequences.of_ids(pairs, temperatures)
    old_M = sequences.old_logp_M - 2.5
    rows = []
    for index, (_, completion) in enumerate(pairs):
        for _ in range(draw(st.integers(0, 2))):
            mask = draw(st.none() | st.lists(st.booleans(), min_size=len(completion), max_size=len(completion)))
            rows.append(
                Row(
                    sequence=index,
                    question=questions[index],
                    algorithm=draw(st.sampled_from(ALGORITHMS)),
                    coefficient=draw(st.sampled_from([0.5, 1.0])),
                    advantage=draw(st.sampled_from([-1.0, 0.7])),
                    mask=None if mask is None else torch.tensor([True, *mask[1:]]),
                )
            )
    return Rows.of(replace(sequences, old_logp_M=old_M, rollout_logp_M=old_M), rows)


@settings(max_examples=40, deadline=None)
@given(updates(), st.sampled_from([1, 12, 30, 1000]))
def test_every_layout_gives_the_padded_gradient(rows: Rows, budget: int) -> None:
    if not len(rows):
        return
    found = []
    for costs in (only("padded"), only("padded", "packed"), only("padded", "prefix"), only("packed", "prefix")):
        POLICY.costs = costs
        POLICY.zero_grad()
        found.append(gradient(POLICY, rows, budget))
    for gradients, report in found[1:]:
        for want, got in zip(found[0][0], gradients, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
        assert report.loss == pytest.approx(found[0][1].loss, abs=1e-12)


def layouts(policy: Policy) -> Set[Layout]:
    return costs_of(policy).layouts


def test_a_prompt_is_computed_once_where_that_is_less_work() -> None:
    sequences = Sequences.of_ids([([1, 2, 3, 4, 5], [6, 7])] * 3 + [([2, 3], [4])], [1.0] * 4)
    shared, alone = laid_out(sequences, range(4), 100, only("padded", "prefix"))
    assert (shared.layout, shared.indices_P.tolist(), shared.positions) == ("prefix", [0, 1, 2], 4 + 3 * 2)
    assert (alone.layout, alone.indices_P.tolist()) == ("padded", [3])
    # Calls that cost more than the whole work make it one.
    (batch,) = laid_out(sequences, range(4), 100, Costs(layouts=frozenset(("padded", "prefix")), call=1000))
    assert batch.layout == "padded"


def test_no_micro_batch_is_over_the_budget_but_of_one_trajectory() -> None:
    rows = [([1] * prompt, [2] * (1 + (7 * index) % 11)) for prompt in (3, 9, 30) for index in range(6)]
    sequences = Sequences.of_ids(rows, [1.0] * len(rows))
    for budget in (1, 25, 40, 90, 400):
        batches = list(laid_out(sequences, range(len(rows)), budget, only("padded", "prefix")))
        assert sorted(index for batch in batches for index in batch.indices_P.tolist()) == list(range(len(rows)))
        for batch in batches:
            assert batch.positions <= budget or len(batch.indices_P) == 1


def test_a_model_takes_the_layouts_that_are_exact_for_it() -> None:
    assert layouts(make_policy()) == {"padded", "packed", "prefix"}


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("mistral", {"sliding_window": 8}, {"padded"}),
        ("mamba", {"state_size": 4}, {"padded"}),
        ("gpt2", {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64}, {"padded", "packed", "prefix"}),
    ],
)
def test_only_exact_layouts_of_each_kind(kind: str, options: dict[str, int], expected: Set[str]) -> None:
    sizes = {} if kind == "gpt2" else {"hidden_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32} if kind == "mistral" else {}
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, **sizes, **heads, **options)
    policy = Policy(AutoModelForCausalLM.from_config(config), make_policy().tokenizer)
    assert layouts(policy) == expected


def test_checkpointed_layers_share_no_prompt() -> None:
    policy = make_policy()
    checkpointed = Policy(policy.model, policy.tokenizer, gradient_checkpointing=True)
    assert layouts(checkpointed) == {"padded", "packed"}


def test_what_is_no_gradient_is_not_computed() -> None:
    """Of a batch whose other half has advantage 0 throughout, half the positions are computed."""
    sequences = Sequences.of_ids([([1, 2, 3], [4, 5, 6])] * 4 + [([2, 3, 4], [5, 6, 7])] * 4, [1.0] * 8)
    every = [
        Row(sequence=k, question=k // 4, algorithm=ALGORITHMS[0], coefficient=1.0, advantage=1.0) for k in range(8)
    ]
    positions = []
    for rows in (every, every[:4]):
        POLICY.costs = only("padded")
        _, report = gradient(POLICY, Rows.of(sequences, rows), 100)
        positions.append(report.positions.total())
    assert positions[0] == 2 * positions[1]
