"""The gradient of one update of the mixed loss: against Eq. 11–13 in plain torch, and the same however it is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.batch import Rows, Sequences
from unigrad.config import TrainConfig, ValueConfig
from unigrad.estimator import algorithm, algorithm_names
from unigrad.hybrid import Objective, Term, averaged_alike, decide, gate, rows_of
from unigrad.policy import Policy
from unigrad.train.annotate import Annotator
from unigrad.train.metrics import update_metrics
from unigrad.train.update import update
from unigrad.train.update_report import UpdateReport
from unigrad.types import Group, Problem, Reason, Trajectory, Verdict
from unigrad.world import World

TEMPERATURE = 0.7
VOCABULARY = 13
ALONE = World()


@pytest.fixture
def policy() -> Policy:
    return make_policy()


def make_policy(tied: bool = True, gradient_checkpointing: bool = False, halved: bool = False) -> Policy:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    model = LlamaForCausalLM(config)
    if halved:
        return Policy(model, tokenizer, compute_dtype=torch.bfloat16)
    return Policy(model.double(), tokenizer, gradient_checkpointing=gradient_checkpointing)


def trajectory(generator: torch.Generator, prompt: int, length: int, reward: float, rollout: bool) -> Trajectory:
    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(VOCABULARY, (count,), generator=generator).tolist())

    # Log-probs near those of a uniform policy, some far enough off to be clipped.
    logprobs = tuple((-2.5 + torch.randn(length, generator=generator) * 0.3).tolist()) if rollout else None
    verdict = Verdict(reward >= 1, None, Reason.RIGHT if reward >= 1 else Reason.WRONG)
    return Trajectory(
        prompt_ids=ids(prompt), completion_ids=ids(length), rollout_logprobs=logprobs, text="", truncated=False,
        reward=reward, verdict=verdict,
    )  # fmt: skip


def groups() -> list[Group]:
    generator = torch.Generator().manual_seed(1)
    rewards = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    made = []
    for index, group_rewards in enumerate(rewards):
        rollouts = tuple(
            trajectory(generator, 2 + index, 1 + (3 * i + index) % 9, r, True) for i, r in enumerate(group_rewards)
        )
        demonstration = trajectory(generator, 2 + index, 4 + index, 1.0, False) if index != 4 else None
        made.append(
            Group(
                problem=Problem(id=str(index), problem="?", answer="1"), rollouts=rollouts, demonstration=demonstration
            )
        )
    return made


def mixture(policy: Policy, name: str, **options: Any) -> Rows:
    """The rows of an update under any algorithm: as the on-policy one, or as the offline one where it spans both."""
    options = {"aggregation": "token_sum", **options}
    chosen = algorithm(name, **options)
    if "values" in chosen.needs:
        policy.add_value_head()
        policy.value_head.to(policy.dtype).linear.weight.data.normal_(std=0.1)  # type: ignore[union-attr]
    # The policy itself stands in for a reference: it is annotated before the log-probs below are moved away from it.
    reference = policy if "reference_logp" in chosen.needs else None
    made = groups()
    sequences = Sequences.of([each for group in made for each in group.trajectories], TEMPERATURE)
    annotated = Annotator(policy, reference, False, 100)(sequences)
    if name in ("luffy", "srft"):
        # Beside SFT, as in MIX/ON: two terms share a demonstration's forward pass.
        terms = averaged_alike(
            (
                Term("grpo", "rollouts", peers="both"),
                Term(name, "demonstrations", peers="both", options=options),
                Term("sft", "demonstrations", coefficient=0.1),
            )
        )
        objective = Objective(gate=gate("both"), terms=terms)
    else:
        terms = (Term(name, "rollouts", options=options), Term("sft", "demonstrations"))
        objective = Objective(gate=gate("switch"), terms=terms)
    return rows_of(made, [each.weights for each in decide(made, objective)], objective.terms, annotated)


class Gradients(torch.optim.SGD):
    """Keeps the gradients that a step would have used."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"] if p.grad is not None]


def gradient(policy: Policy, rows: Rows, budget: int, world: World = ALONE) -> tuple[list[torch.Tensor], UpdateReport]:
    optimizer = Gradients(policy.parameters(), lr=0.0)
    config = TrainConfig(tokens_per_micro_batch=budget, max_grad_norm=0)
    report = update(policy, optimizer, rows, config, ValueConfig(), world)
    return optimizer.seen, report


@pytest.mark.parametrize("name", algorithm_names())
def test_the_gradient_does_not_depend_on_the_token_budget(policy: Policy, name: str) -> None:
    rows = mixture(policy, name, entropy_coefficient=0.01)
    whole, report = gradient(policy, rows, 10_000)
    for budget in (1, 20, 50, 77):
        cut, cut_report = gradient(policy, rows, budget)
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
        assert cut_report.loss == pytest.approx(report.loss, abs=1e-12)
        assert cut_report.value_loss == pytest.approx(report.value_loss, abs=1e-12)
        assert cut_report.grad_norm == pytest.approx(report.grad_norm, rel=1e-12)
        assert (cut_report.tokens, cut_report.clipped) == (report.tokens, report.clipped)
        assert cut_report.mismatch == pytest.approx(report.mismatch, rel=1e-12)


@pytest.mark.parametrize("entropy_coefficient", [0.0, 0.25])
def test_the_gradient_is_that_of_the_mixed_loss_in_plain_torch(policy: Policy, entropy_coefficient: float) -> None:
    rows = mixture(policy, "grpo", entropy_coefficient=entropy_coefficient)
    got, report = gradient(policy, rows, 60)
    assert report.clipped > 0

    policy.model.zero_grad()
    loss = torch.zeros((), dtype=torch.float64)
    all_groups = groups()
    for group in all_groups:
        solved = sum(each.reward for each in group.rollouts)
        use_sft = solved == 0 and group.demonstration is not None
        if use_sft:
            assert group.demonstration is not None
            loss = loss - log_probs(policy, group.demonstration, 1.0).mean()
            continue
        rewards = torch.tensor([each.reward for each in group.rollouts], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for each, advantage in zip(group.rollouts, advantages, strict=True):
            old = torch.tensor(each.rollout_logprobs, dtype=torch.float64)
            # One forward for both: the model's norms round a gradient to float32, and that of a sum is not the sum's.
            logp_TV = all_log_probs(policy, each, TEMPERATURE)
            ratio = (logp_TV.gather(1, torch.tensor(each.completion_ids)[:, None])[:, 0] - old).exp()
            loss = loss - torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).sum() / 4
            entropy = -(logp_TV.exp() * logp_TV).sum()
            loss = loss - entropy_coefficient * entropy / 4
    (loss / len(all_groups)).backward()
    want = [p.grad for p in policy.model.parameters() if p.grad is not None]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def all_log_probs(policy: Policy, each: Trajectory, temperature: float) -> torch.Tensor:
    """Of the whole vocabulary at each token of the completion. f[T,V]."""
    ids = torch.tensor([[*each.prompt_ids, *each.completion_ids]])
    return (policy.model(ids).logits[0, len(each.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)


def log_probs(policy: Policy, each: Trajectory, temperature: float) -> torch.Tensor:
    logp = all_log_probs(policy, each, temperature)
    return logp.gather(1, torch.tensor(each.completion_ids)[:, None])[:, 0]


def test_the_mismatch_is_that_of_the_ratio_to_the_engine(policy: Policy) -> None:
    rows = mixture(policy, "grpo")
    trajectories = [each for group in groups() for each in group.trajectories]
    sampled = [each for index, each in enumerate(trajectories) if index in rows.trained_sequences and each.on_policy]
    own = torch.cat([log_probs(policy, each, TEMPERATURE) for each in sampled]).detach()
    engine = [value for each in sampled for value in each.rollout_logprobs or ()]
    log_ratio = own - torch.tensor(engine, dtype=own.dtype)
    ratio = log_ratio.exp()
    metrics = update_metrics([gradient(policy, rows, 60)[1]])
    assert metrics["policy/rollout_mismatch_mean"] == pytest.approx(log_ratio.abs().mean().item(), rel=1e-6)
    assert metrics["policy/rollout_mismatch_max"] == pytest.approx(log_ratio.abs().max().item(), rel=1e-6)
    assert metrics["policy/rollout_mismatch_kl"] == pytest.approx((ratio - 1 - log_ratio).mean().item(), rel=1e-6)
    assert metrics["policy/rollout_ess"] == pytest.approx((ratio.mean() ** 2 / ratio.square().mean()).item(), rel=1e-6)
    assert 0 < metrics["policy/rollout_ess"] < 0.99


def test_a_non_finite_gradient_leaves_the_weights_alone(policy: Policy) -> None:
    before = [p.detach().clone() for p in policy.model.parameters()]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1.0)
    rows = mixture(policy, "grpo")
    spoiled = replace(rows, coefficient_R=torch.full_like(rows.coefficient_R, float("inf")))
    report = update(policy, optimizer, spoiled, TrainConfig(), ValueConfig(), World())
    assert report.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))
