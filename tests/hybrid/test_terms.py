"""The mixed loss as rows: coefficients by hand, and equality with Eq. 11–13 written out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from unigrad.batch import Sequences
from unigrad.estimator import Algorithm, algorithm
from unigrad.hybrid import Decision, Gate, Objective, Term, averaged_alike, decide, gate, rows_of
from unigrad.hybrid.schedules import averaged, shuffled
from unigrad.hybrid.terms import Members
from unigrad.types import Group, Problem, Reason, Trajectory, Verdict


def trajectory(length: int, reward: float, on_policy: bool = True) -> Trajectory:
    return Trajectory(
        prompt_ids=(1,),
        completion_ids=tuple(range(length)),
        rollout_logprobs=(-1.0,) * length if on_policy else None,
        text="",
        truncated=False,
        reward=reward,
        verdict=Verdict(reward >= 1, None, Reason.RIGHT if reward >= 1 else Reason.WRONG),
    )


def group(rewards: list[float], lengths: list[int], demonstration: int | None) -> Group:
    return Group(
        problem=Problem(id="p", problem="?", answer="1"),
        rollouts=tuple(trajectory(n, r) for n, r in zip(lengths, rewards, strict=True)),
        demonstration=None if demonstration is None else trajectory(demonstration, 1.0, on_policy=False),
    )


@dataclass
class Seen:
    """A row as a reader would write it down."""

    trajectory: Trajectory
    question: int
    algorithm: Algorithm
    advantage: float | tuple[float, ...]
    coefficient: float
    returns: tuple[float, ...] | None


@dataclass
class Mixture:
    rows: tuple[Seen, ...]
    skipped_tokens: int


def same(algorithm: Algorithm, made: dict[str, Algorithm] = {}) -> Algorithm:  # noqa: B006
    """One object for all algorithms that are alike."""
    return made.setdefault(repr((algorithm.name, algorithm.defaults())), algorithm)


def term(algorithm: Algorithm, members: Members, peers: Members | None = None, **fields: Any) -> Term:
    """A term with this algorithm and its options."""
    options = {"aggregation": algorithm.aggregation, **algorithm.options}
    return Term(algorithm.name, members, peers, options=options, **fields)


def terms(on_policy: Algorithm, *offline: Algorithm, selected_mean: bool = False) -> tuple[Term, ...]:
    """A demonstration is one more member of its group where an algorithm says so."""
    spans = {"luffy", "srft"}
    peers = "both" if spans & {each.name for each in offline} else None
    return averaged_alike(
        [
            term(on_policy, "rollouts", peers),
            *(
                term(each, "demonstrations", "both")
                if each.name in spans
                else term(each, "demonstrations", selected_mean=selected_mean)
                for each in offline
            ),
        ]
    )


def mix(
    groups: list[Group], gate: Gate, on_policy: Algorithm, *offline: Algorithm, **options: Any
) -> tuple[Mixture, list[Decision]]:
    """The rows of one step, and the decisions behind them."""
    annotated = {key: options.pop(key) for key in ("reference_logp_M", "values_M") if key in options}
    selected_mean = options.pop("selected_mean", False)
    objective = Objective(gate=gate, terms=terms(on_policy, *offline, selected_mean=selected_mean), **options)
    decisions = decide(groups, objective)
    return mix_decided(groups, decisions, objective, **annotated), decisions


def mix_decided(
    groups: list[Group], decisions: list[Decision], objective: Objective, **annotated: torch.Tensor
) -> Mixture:
    every = [each for group in groups for each in group.trajectories]
    rows = rows_of(
        groups,
        [each.weights for each in decisions],
        objective.terms,
        replace(Sequences.of(every, 1.0), **annotated),
        kl_reward_coefficient=objective.kl_reward_coefficient,
    )

    def by_row(values: torch.Tensor) -> list[tuple[float, ...]]:
        return [tuple(row.tolist()) for row in values.split(rows.length_R.tolist())]

    returns = by_row(rows.returns_N) if rows.returns_N is not None else [None] * len(rows)
    seen = tuple(
        Seen(
            trajectory=every[rows.sequence_R[index]],
            question=int(rows.question_R[index]),
            algorithm=same(rows.algorithms[rows.algorithm_R[index]]),
            advantage=advantage[0] if len(set(advantage)) == 1 else advantage,
            coefficient=rows.coefficient_R[index].item(),
            returns=returns[index],
        )
        for index, advantage in enumerate(by_row(rows.advantage_N))
    )
    trained = set(rows.sequence_R.tolist())
    return Mixture(
        seen,
        sum(len(each.completion_ids) for i, each in enumerate(every) if each.on_policy and i not in trained),
    )


RL = algorithm("grpo", aggregation="token_sum", std_epsilon=0.0)
SFT = algorithm("sft")
SOLVED_IN_PART = group([1, 0], [3, 5], demonstration=4)
SOLVED_NEVER = group([0, 0], [2, 2], demonstration=6)
SOLVED_ALWAYS = group([1, 1], [2, 3], demonstration=4)
NO_DEMONSTRATION = group([0, 0], [2, 4], demonstration=None)


def test_hpt_by_hand() -> None:
    mixture, decisions = mix([SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS], gate("switch", threshold=0), RL, SFT)
    rl, sft = mixture.rows[:2], mixture.rows[2:]
    # Question 1 goes to RL: z-scores of (1, 0) are ±1/√2·... = (1/2)/(1/√2); coefficient 1/(3 questions · 2 rollouts).
    assert [row.trajectory for row in rl] == list(SOLVED_IN_PART.rollouts)
    assert [row.advantage for row in rl] == pytest.approx([0.5 * 2**0.5, -0.5 * 2**0.5], abs=1e-12)
    assert [row.coefficient for row in rl] == pytest.approx([1 / 6, 1 / 6], abs=1e-15)
    # Question 2 goes to SFT: one row of 6 tokens, 1/(3 questions · 6 tokens). Question 3 is solved: nothing trains.
    assert [row.trajectory for row in sft] == [SOLVED_NEVER.demonstration]
    assert (sft[0].algorithm.name, sft[0].advantage) == ("sft", 1.0)
    assert sft[0].coefficient == pytest.approx(1 / 18, abs=1e-15)
    assert [(d.alpha, d.beta) for d in decisions] == [(1, 0), (0, 1), (1, 0)]
    assert mixture.skipped_tokens == 4 + 5  # the failed group's and the solved group's rollouts


def test_a_question_without_demonstration_falls_back_to_rl() -> None:
    mixture, decisions = mix([NO_DEMONSTRATION, SOLVED_NEVER], gate("switch", threshold=0), RL, SFT)
    assert [(d.alpha, d.beta, d.fell_back) for d in decisions] == [(1, 0, True), (0, 1, False)]
    # All its rewards are equal, so nothing trains; the other question's share stays 1/2.
    assert [row.coefficient for row in mixture.rows] == pytest.approx([1 / 12], abs=1e-15)


def test_without_rollouts_every_demonstration_trains() -> None:
    groups = [
        Group(problem=g.problem, rollouts=(), demonstration=g.demonstration) for g in (SOLVED_NEVER, SOLVED_ALWAYS)
    ]
    mixture, _ = mix(groups, gate("demonstrations"), RL, SFT)
    assert [row.coefficient for row in mixture.rows] == pytest.approx([1 / 12, 1 / 8], abs=1e-15)
    assert mixture.skipped_tokens == 0


def test_the_rows_are_the_mixed_loss_of_eq_13() -> None:
    groups = [SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS]
    generator = torch.Generator().manual_seed(1)
    logps = {
        id(each): -torch.rand(len(each.completion_ids), generator=generator, dtype=torch.float64)
        for g in groups
        for each in (*g.rollouts, g.demonstration)
        if each is not None
    }
    for values in logps.values():
        values.requires_grad_()

    loss = torch.zeros((), dtype=torch.float64)
    for g, (alpha, beta) in zip(groups, [(1, 0), (0, 1), (1, 0)], strict=True):
        rewards = torch.tensor([each.reward for each in g.rollouts], dtype=torch.float64)
        z = (rewards - rewards.mean()) / rewards.std() if rewards.std() > 0 else torch.zeros_like(rewards)
        for each, advantage in zip(g.rollouts, z, strict=True):
            ratio = (logps[id(each)] - torch.tensor(each.rollout_logprobs, dtype=torch.float64)).exp()
            objective = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).sum()  # Eq. 11
            loss = loss - alpha * objective / len(g.rollouts) / len(groups)
        assert g.demonstration is not None
        loss = loss - beta * logps[id(g.demonstration)].mean() / len(groups)  # Eq. 12
    loss.backward()

    expected = {key: torch.zeros_like(values) for key, values in logps.items()}
    for row in mix(groups, gate("switch", threshold=0), RL, SFT)[0].rows:
        each = row.trajectory
        logp = logps[id(each)].detach()[None]
        old = None if each.rollout_logprobs is None else torch.tensor([each.rollout_logprobs], dtype=torch.float64)
        adv = torch.tensor([row.advantage], dtype=torch.float64)
        weights = row.algorithm.weights(logp, old, adv, torch.ones_like(logp, dtype=torch.bool))
        expected[id(each)] = -row.coefficient * weights[0]
    for key, values in logps.items():
        grad = torch.zeros_like(values) if values.grad is None else values.grad
        torch.testing.assert_close(grad, expected[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant", "token_sum"])
def test_a_questions_weight_does_not_depend_on_what_the_others_train_on(aggregation: str) -> None:
    rl = algorithm("grpo", aggregation=aggregation)
    other_fails = group([0, 0], [2, 3], demonstration=4)
    other_mixed = group([1, 0], [2, 3], demonstration=4)
    switch = gate("switch", threshold=0)
    first = mix([SOLVED_IN_PART, other_fails], switch, rl, SFT)[0].rows[0]
    second = mix([SOLVED_IN_PART, other_mixed], switch, rl, SFT)[0].rows[0]
    assert first == second


def test_luffys_groups_hold_their_demonstration() -> None:
    failed = group([0, 0, 0], [2, 3, 2], demonstration=4)
    luffy, rl = algorithm("luffy", normalise_std=False), RL.with_options(normalise_std=False)
    rows = mix([failed], gate("both"), rl, luffy)[0].rows
    # Three failures and one right demonstration: mean 1/4, as in the authors' code.
    assert [row.advantage for row in rows] == pytest.approx([-0.25, -0.25, -0.25, 0.75], abs=1e-12)
    assert [row.algorithm.name for row in rows] == ["grpo", "grpo", "grpo", "luffy"]
    # With demonstration and rollouts alike there is nothing to compare.
    assert mix([group([1, 1], [2, 3], demonstration=4)], gate("both"), rl, luffy)[0].rows == ()


def test_a_demonstration_weighs_as_one_more_member_of_its_group() -> None:
    """LUFFY averages over rollouts and demonstrations together: Q questions of n + 1 members each."""
    groups = [group([0, 0, 0], [2, 3, 2], demonstration=4), group([1, 0, 0], [2, 3, 2], demonstration=5)]
    rl = algorithm("dr_grpo", constant_length=10)
    rows = mix(groups, gate("both"), rl, algorithm("luffy"))[0].rows
    assert [row.coefficient for row in rows] == pytest.approx([1 / (2 * 4 * 10)] * 8, abs=1e-15)


def test_off_policy_rl_compares_only_where_the_demonstration_trains() -> None:
    """OFF/ON: a question that trains on its rollouts compares them alone."""
    luffy, rl = algorithm("luffy", normalise_std=False), RL.with_options(normalise_std=False)
    rows = mix([SOLVED_IN_PART, SOLVED_NEVER], gate("switch"), rl, luffy)[0].rows
    assert [row.advantage for row in rows] == pytest.approx([0.5, -0.5, 2 / 3], abs=1e-12)
    assert [row.algorithm.name for row in rows] == ["grpo", "grpo", "luffy"]


def test_srft_keeps_its_own_advantages_on_rollouts() -> None:
    offline = (algorithm("srft", std_epsilon=0.0), algorithm("srft_sft"))
    rows = mix([SOLVED_IN_PART], gate("both"), algorithm("srft_rollouts"), *offline)[0].rows
    assert [row.algorithm.name for row in rows] == ["srft_rollouts", "srft_rollouts", "srft", "srft_sft"]
    # ±1 on rollouts; the demonstration among (1, 0, 1) stands 1/3 over the mean, std 1/√3; imitation is 1.
    assert [row.advantage for row in rows] == pytest.approx([1, -1, 3**-0.5, 1], abs=1e-12)
    # Rollouts of 3 and 5 tokens and a demonstration of 4 are one group; SFT's mean is over the one question.
    assert [row.coefficient for row in rows] == pytest.approx([1 / 9, 1 / 15, 1 / 12, 1 / 4], abs=1e-15)


def test_a_demonstration_under_two_terms() -> None:
    """MIX/ON's 1.0 · off-policy RL + 0.1 · SFT."""
    on_policy, luffy, sft = terms(RL, algorithm("luffy", normalise_std=False), SFT)
    objective = Objective(gate=gate("switch"), terms=(on_policy, luffy, replace(sft, coefficient=0.1)))
    decisions = decide([SOLVED_NEVER], objective)
    assert decisions == [Decision(0.0, (1.0, 0.1))]
    rows = mix_decided([SOLVED_NEVER], decisions, objective).rows
    assert [(row.algorithm.name, row.advantage) for row in rows] == [("luffy", pytest.approx(2 / 3)), ("sft", 1.0)]
    assert [row.coefficient for row in rows] == pytest.approx([1 / 3, 0.1 / 6], abs=1e-15)


@pytest.mark.parametrize("normalise_std", [True, False])
def test_a_lone_demonstration_is_worth_its_reward(normalise_std: bool) -> None:
    """The authors' OFF/ON: rollouts that do not train are gone, and a group of one has Â = R, as in verl."""
    on_policy, luffy = terms(RL, algorithm("luffy", normalise_std=normalise_std))
    objective = Objective(gate=gate("switch"), terms=(on_policy, replace(luffy, lone=True)))
    partly_right = replace(SOLVED_NEVER, demonstration=trajectory(6, 0.5, on_policy=False))
    asked = [SOLVED_IN_PART, SOLVED_NEVER, partly_right]
    rows = mix_decided(asked, decide(asked, objective), objective).rows
    assert [(row.algorithm.name, row.question) for row in rows] == [
        ("grpo", 0),
        ("grpo", 0),
        ("luffy", 1),
        ("luffy", 2),
    ]
    assert [row.advantage for row in rows[2:]] == [1.0, 0.5]
    # Beside rollouts that train it is compared with them, as ever.
    beside = replace(objective, gate=gate("both"))
    rows = mix_decided([SOLVED_IN_PART], decide([SOLVED_IN_PART], beside), beside).rows
    assert [row.advantage for row in rows] == [
        row.advantage for row in mix([SOLVED_IN_PART], gate("both"), RL, luffy.algorithm)[0].rows
    ]


def test_a_dropped_question_counts_nowhere() -> None:
    alone, _ = mix([SOLVED_IN_PART], gate("rollouts"), RL, SFT)
    mixture, decisions = mix([SOLVED_IN_PART, SOLVED_NEVER], gate("drop"), RL, SFT)
    assert decisions[1].is_dropped
    assert mixture.rows == alone.rows
    assert mixture.skipped_tokens == 2 + 2
    assert mix([SOLVED_NEVER], gate("drop"), RL, SFT)[0].rows == ()


def test_multipliers_and_schedule() -> None:
    objective = Objective(
        gate=gate("linear"), terms=(term(RL, "rollouts"), term(SFT, "demonstrations", coefficient=0.5)),
        alpha=2.0, beta=3.0,
        schedule=lambda progress: (1 - progress, progress),
    )  # fmt: skip
    (decision,) = decide([group([1, 0, 0, 0], [1] * 4, demonstration=2)], objective, progress=0.2)
    assert decision.alpha == pytest.approx(0.25 * 0.8 * 2, abs=1e-15)
    assert decision.betas == pytest.approx((0.75 * 0.2 * 3 * 0.5,), abs=1e-15)


def test_the_mean_over_selected_demonstrations() -> None:
    """The authors' SFT term: a mean over the demonstrations that train, whatever the number of questions."""
    groups = [SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS]
    sft = algorithm("sft", aggregation="token_mean")
    rows = mix(groups, gate("switch"), RL, sft, selected_mean=True)[0].rows
    assert rows[-1].coefficient == pytest.approx(1 / 6, abs=1e-15)


def test_controls_keep_the_rate_and_lose_the_question() -> None:
    groups = [SOLVED_NEVER, SOLVED_NEVER, *[SOLVED_IN_PART] * 6]
    objective = Objective(gate=gate("switch"), terms=terms(RL, SFT), across=shuffled)
    seen = [[d.beta for d in decide(groups, objective, seed=seed)] for seed in range(200)]
    assert all(sum(betas) == 2 for betas in seen)
    # 400 demonstrations fall on 8 places: each has 50, with a standard deviation below 7.
    assert all(22 <= sum(column) <= 78 for column in zip(*seen, strict=True))
    assert decide(groups, objective, seed=3) == decide(groups, objective, seed=3)
    mean = replace(objective, across=averaged)
    assert {(d.alpha, d.beta) for d in decide(groups, mean)} == {(0.75, 0.25)}


def test_a_gate_that_weighs_other_terms_than_there_are() -> None:
    with pytest.raises(ValueError, match="weighs 2 offline terms, and the method has 1"):
        Objective(gate=gate("table", table=[(0, 1, 1)]), terms=terms(RL, SFT))


def test_rows_without_advantage_stay_where_they_change_the_gradient() -> None:
    with_entropy = algorithm("grpo", aggregation="token_sum", entropy_coefficient=0.1)
    mixture, _ = mix([SOLVED_ALWAYS], gate("rollouts"), with_entropy, SFT)
    assert [row.advantage for row in mixture.rows] == [0.0, 0.0]
    assert mixture.skipped_tokens == 0


def test_a_kl_in_the_reward_moves_the_advantages() -> None:
    # Log-probs are −1 at each token; a reference of −2 makes each token cost 0.1 · 1. Rewards 1 and 0, lengths 3 and 5.
    kl_group = replace(SOLVED_IN_PART, demonstration=None)
    reference = torch.tensor([-2.0] * 3 + [-1.0] * 5, dtype=torch.float64)
    options = {"kl_reward_coefficient": 0.1, "reference_logp_M": reference}
    rows = mix([kl_group], gate("rollouts"), algorithm("dr_grpo"), SFT, **options)[0].rows
    # 1 − 0.3 and 0: centred, ±0.35.
    assert [row.advantage for row in rows] == pytest.approx([0.35, -0.35], abs=1e-12)


def test_ppo_gives_every_token_an_advantage_and_a_return() -> None:
    one = replace(SOLVED_IN_PART, rollouts=SOLVED_IN_PART.rollouts[:1], demonstration=None)
    values = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    (row,) = mix([one], gate("rollouts"), algorithm("ppo", gae_lambda=1.0), SFT, values_M=values)[0].rows
    # λ = γ = 1: the return is the reward 1 at every token, the advantage what the value misses of it.
    assert row.returns == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)
    assert row.advantage == pytest.approx((0.5, 0.75, 0.25), abs=1e-12)


def test_a_discount_gives_every_token_an_advantage_without_a_value_head() -> None:
    # Lengths 3 and 5, rewards 1 and 0: returns 1/4, 1/2, 1 and five times 0; mean 7/32.
    alone = replace(SOLVED_IN_PART, demonstration=None)
    rows = mix([alone], gate("rollouts"), algorithm("reinforce_pp", std_epsilon=0.0, discount=0.5), SFT)[0].rows
    returns = torch.tensor([0.25, 0.5, 1, 0, 0, 0, 0, 0], dtype=torch.float64)
    whitened = ((returns - 7 / 32) / returns.std()).tolist()
    first, second = rows
    assert first.advantage == pytest.approx(tuple(whitened[:3]), abs=1e-12)
    assert second.advantage == pytest.approx(whitened[3], abs=1e-12)
    assert first.returns is second.returns is None


def test_an_update_counts_its_own_questions_alone() -> None:
    asked = [SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS]
    objective = Objective(gate=gate("switch"), terms=terms(RL, SFT))
    sequences = Sequences.of([each for one in asked for each in one.trajectories], 1.0)
    weights = [each.weights for each in decide(asked, objective)]
    rows = rows_of(asked, weights, objective.terms, sequences, questions=range(1, 3))
    assert (rows.question_R.tolist(), rows.sequence_R.tolist()) == ([1], [5])
    assert rows.coefficient_R.tolist() == pytest.approx([1 / (2 * 6)], abs=1e-15)


def test_a_reference_alone_moves_no_advantage() -> None:
    one = replace(SOLVED_IN_PART, demonstration=None)
    sequences = replace(Sequences.of(one.rollouts, 1.0), reference_logp_M=torch.full((8,), -3.0, dtype=torch.float64))
    rows = rows_of([one], [(1.0, 0.0)], terms(algorithm("dr_grpo"), SFT), sequences)
    assert rows.advantage_N.tolist() == [0.5] * 3 + [-0.5] * 5


def test_an_objective_by_default() -> None:
    plain = Objective(gate=gate("switch"), terms=terms(RL, SFT))
    assert (plain.kl_reward_coefficient, plain.samples, plain.until) == (0.0, True, 1.0)
    assert "reference_logp" not in plain.needs
    assert "reference_logp" in replace(plain, kl_reward_coefficient=0.1).needs


def test_decisions_by_default_are_the_starts() -> None:
    asked = [SOLVED_NEVER, *[SOLVED_IN_PART] * 7]
    dealt = Objective(gate=gate("switch"), terms=terms(RL, SFT), across=shuffled)
    assert decide(asked, dealt) == decide(asked, dealt, seed=0)
    assert decide(asked, dealt) != decide(asked, dealt, seed=1)
    rising = Objective(gate=gate("both"), terms=terms(RL, SFT), schedule=lambda progress: (1.0, 0.25 + progress))
    assert decide([SOLVED_NEVER], rising) == [Decision(1.0, (0.25,))]


def test_one_of_two_offline_terms_is_enough_to_fall_back() -> None:
    objective = Objective(gate=gate("table", table=[(0, 0, 1)]), terms=terms(RL, algorithm("luffy"), SFT))
    assert decide([NO_DEMONSTRATION], objective) == [Decision(1.0, (0.0, 0.0), fell_back=True)]
    assert [Decision(1.0, (0.0,)).is_dropped, Decision(0.0, (0.0, 0.0)).is_dropped] == [False, True]


def test_terms_that_some_gate_value_trains() -> None:
    three = terms(RL, algorithm("luffy"), SFT)
    some = Objective(gate=gate("table", table=[(0, 0, 1), (1, 0, 0)]), terms=three)
    assert some.training(4) == (three[0], three[2])
    assert Objective(gate=gate("demonstrations"), terms=terms(RL, SFT)).training(0) == terms(RL, SFT)[1:]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Term("grpo", "rollouts"), "grpo on rollouts"),
        (Term("grpo", "rollouts", "both"), "grpo on rollouts in one group with demonstrations"),
        (Term("luffy", "demonstrations", "both"), "luffy on demonstrations"),
        (Term("sft", "demonstrations", coefficient=0.1), "0.1·sft on demonstrations"),
        (Term("grpo", "both"), "grpo on rollouts and demonstrations"),
    ],
)
def test_a_term_in_words(said: Term, words: str) -> None:
    assert str(said) == words


def test_a_group_is_averaged_as_the_first_of_its_own_terms() -> None:
    alone = Term("dapo", "rollouts")
    pair = (
        Term("dr_grpo", "rollouts", "both", options={"constant_length": 7}),
        Term("luffy", "demonstrations", "both"),
    )
    first, *shared = averaged_alike((alone, *pair))
    assert first is alone
    assert [(term.algorithm.aggregation, term.algorithm.defaults()["constant_length"]) for term in shared] == [
        ("constant", 7)
    ] * 2


def test_the_first_terms_coefficient_counts_also_where_a_question_falls_back() -> None:
    on_policy, sft = terms(RL, SFT)
    doubled = Objective(gate=gate("switch"), terms=(replace(on_policy, coefficient=2.0), sft))
    assert [each.alpha for each in decide([SOLVED_IN_PART, NO_DEMONSTRATION], doubled)] == [2.0, 2.0]


def test_no_more_rollouts_are_solved_than_there_are() -> None:
    late = Objective(gate=gate("table", table=[(0, 1), (0, 1), (1, 0)]), terms=terms(RL, SFT))
    assert late.training(1) == late.terms[1:]
    assert late.training(2) == late.terms


def test_a_demonstration_is_a_peer_where_any_of_its_groups_terms_trains_on_it() -> None:
    luffy = algorithm("luffy", normalise_std=False)
    three = terms(RL.with_options(normalise_std=False), luffy, algorithm("srft", normalise_std=False))
    objective = Objective(gate=gate("table", table=[(1, 1, 0)]), terms=three)
    rows = mix_decided([SOLVED_NEVER], decide([SOLVED_NEVER], objective), objective).rows
    # Two failures and a right demonstration: mean 1/3.
    assert [row.advantage for row in rows] == pytest.approx([-1 / 3, -1 / 3, 2 / 3], abs=1e-12)


def test_an_objective_reads_rewards_where_a_trained_term_compares_rollouts_by_them() -> None:
    both = gate("both")
    assert Objective(gate=both, terms=terms(RL, SFT)).reads_rewards
    assert not Objective(gate=both, terms=terms(RL, SFT), samples=False).reads_rewards
    assert not Objective(gate=gate("demonstrations"), terms=terms(RL, SFT)).reads_rewards
    # REINFORCE asks only whether a rollout is solved; SFT for nothing.
    assert not Objective(gate=both, terms=terms(algorithm("reinforce"), SFT)).reads_rewards
    # What compares demonstrations with each other alone.
    alone = term(algorithm("grpo"), "demonstrations")
    assert not Objective(gate=both, terms=(term(algorithm("reinforce"), "rollouts"), alone)).reads_rewards
