"""§3.2 and Appendix B, exactly: on a policy whose every trajectory is listed, expectations are sums.

The policy: 15 token sequences over three tokens, of length 1 to 3, with a table of logits for parameters, in float64.
Shapes: N trajectories, T tokens, P parameters, C batches, G rows.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from enumerable import Estimates, Tree, batches, row_gradients
from torch import Tensor

from unigrad.estimator import Algorithm, advantages, algorithm, algorithm_names, references, terms

TREE = Tree()
GENERATOR = torch.Generator().manual_seed(0)


def random_logits() -> Tensor:
    return torch.randn(TREE.shape, generator=GENERATOR, dtype=torch.float64)


THETA = random_logits()
OLD = THETA + 0.5 * random_logits()
BETA, REFERENCE, OTHER = random_logits(), random_logits(), random_logits()
UNIFORM = torch.zeros(TREE.shape, dtype=torch.float64)
REWARDS = (torch.rand(len(TREE.trajectories), generator=GENERATOR) < 0.4).double()
MU = 0.7


def gradient(objective: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(objective, logits)[0].flatten()


def leaf(logits: Tensor = THETA) -> Tensor:
    return logits.clone().requires_grad_()


def reward_gradient(rewards: Tensor = REWARDS) -> Tensor:
    """∇E_{π_θ}[r], by autograd of the sum over all trajectories."""
    theta = leaf()
    return gradient((TREE.probabilities(theta) * rewards).sum(), theta)


def kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first‖second) over trajectories, from logits."""
    log_ratio = (TREE.logp(first) - TREE.logp(second)).sum(1)
    return (TREE.probabilities(first) * log_ratio).sum()


def trajectory_scores() -> Tensor:
    """∇log π_θ(τ). f[N,P]."""
    return TREE.scores(THETA).sum(1)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_the_tree_is_a_policy() -> None:
    assert len(TREE.trajectories) == 15
    assert TREE.probabilities(THETA).sum().item() == pytest.approx(1, abs=1e-14)
    assert 0 < REWARDS.sum() < len(REWARDS)
    for index in range(len(TREE.trajectories)):
        theta = leaf()
        assert_equal(gradient(TREE.logp(theta)[index].sum(), theta), trajectory_scores()[index])


def test_batches_are_all_sets_of_rows_with_the_probability_of_all_their_orders() -> None:
    first, second = TREE.probabilities(THETA), TREE.probabilities(BETA)
    rows_CG, probabilities = batches(TREE, (first, 3), (second, 1))
    assert rows_CG.shape == (680 * 15, 4)  # C(15 + 2, 3) sets of three, times one of 15
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    chance = dict(zip(map(tuple, rows_CG.tolist()), probabilities.tolist(), strict=True))
    assert chance[2, 2, 5, 7] == pytest.approx((3 * first[2] ** 2 * first[5] * second[7]).item(), rel=1e-12)
    assert chance[1, 2, 3, 0] == pytest.approx((6 * first[1] * first[2] * first[3] * second[0]).item(), rel=1e-12)


# Appendix B.1


def test_lemma_a1_score_function() -> None:
    p = TREE.probabilities(THETA)
    assert_equal((p * REWARDS) @ trajectory_scores(), reward_gradient())
    assert_equal(p @ trajectory_scores(), torch.zeros(THETA.numel(), dtype=torch.float64))


def test_lemma_a2_parameterised_integrand() -> None:
    def integrand(logits: Tensor) -> Tensor:
        return (logits.sin().sum() + TREE.logp(logits).sum(1).square()) * (REWARDS + 0.5)

    theta = leaf()
    exact = gradient((TREE.probabilities(theta) * integrand(theta)).sum(), theta)
    theta = leaf()
    inner = gradient((TREE.probabilities(THETA) * integrand(theta)).sum(), theta)
    assert_equal((TREE.probabilities(THETA) * integrand(THETA)) @ trajectory_scores() + inner, exact)


@pytest.mark.parametrize("sampler", [THETA, OLD, BETA, UNIFORM, OTHER], ids=["θ", "old", "β", "uniform", "other"])
def test_lemma_a3_measure_change(sampler: Tensor) -> None:
    """The package's ratio, of two policies' tokens, is what turns an expectation under one into that under the other;
    ∇π_θ is autograd's of whole trajectories."""
    p, s = TREE.probabilities(THETA), TREE.probabilities(sampler)
    ratio_N = references.trajectory.function(TREE.logp(THETA), TREE.logp(sampler))[:, 0].exp()
    expected = reward_gradient()
    assert_equal((s * ratio_N * REWARDS) @ trajectory_scores(), expected)
    gradients_of_p = torch.autograd.functional.jacobian(TREE.probabilities, THETA).flatten(1)
    assert_equal((s * ratio_N / p * REWARDS) @ gradients_of_p, expected)
    # Any integrand, not only the reward.
    assert (s * ratio_N * torch.arange(len(s))).sum().item() == pytest.approx((p * torch.arange(len(p))).sum().item())


# Eq. 1–6 with the package's own weights


def expectation(
    alg: Algorithm, sampler: Tensor, rewards: Tensor, rollout: Tensor, reference: Tensor = THETA, size: int = 1
) -> Tensor:
    """E_{τ~sampler} of the estimator with `size` rows a batch, rewards f[N] as they come, π_old = `rollout`. f[P]."""
    rows_CG, probabilities = batches(TREE, (TREE.probabilities(sampler), size))
    gradients = row_gradients(
        alg,
        TREE,
        rows_CG,
        logits=THETA,
        rollout_logits=rollout,
        rewards_N=rewards,
        reference_logits=reference,
        values_NT=torch.zeros(TREE.mask_NT.shape, dtype=torch.float64),
    )
    return Estimates(gradients.sum(1), probabilities).mean


def estimator(reference: str, **options: float) -> Algorithm:
    """Eq. 3: raw rewards and this reference, no mask, summed over tokens."""
    return Algorithm(
        name="eq3",
        source="Eq. 3",
        reference=getattr(references, reference),
        advantage=advantages.reward,
        shaping=terms.trust_region,
        penalties=(terms.kl_penalty,),
        aggregation="token_sum",
        options=options,
    )


def common_objective(logits: Tensor) -> Tensor:
    """Eq. 1: J_μ."""
    return (TREE.probabilities(logits) * REWARDS).sum() - MU * kl(BETA, logits)


def test_equation_2_is_the_gradient_of_equation_1() -> None:
    theta = leaf()
    exact = gradient(common_objective(theta), theta)
    reward_term = expectation(algorithm("reinforce", aggregation="token_sum"), THETA, REWARDS, THETA)
    # REINFORCE's ±1 is 2R − 1, and E[∇log π_θ] = 0.
    sft_term = expectation(algorithm("sft", aggregation="token_sum"), BETA, REWARDS, THETA)
    assert_equal(reward_term / 2 + MU * sft_term, exact)
    assert_equal(expectation(estimator("current"), THETA, REWARDS, THETA) + MU * sft_term, exact)


@pytest.mark.parametrize("sampler", [THETA, OLD, UNIFORM, OTHER], ids=["θ", "old", "uniform", "other"])
def test_equation_3_under_any_reference_policy(sampler: Tensor) -> None:
    """Sampled from π_ref ≠ π_β, Eq. 4 has no SFT term: Eq. 3 is the reward's gradient, and the SFT term joins it from
    π_β."""
    theta = leaf()
    exact = gradient(common_objective(theta), theta)
    reward_term = expectation(estimator("trajectory"), sampler, REWARDS, sampler)
    assert_equal(reward_term, reward_gradient())
    assert_equal(reward_term + MU * expectation(algorithm("sft", aggregation="token_sum"), BETA, REWARDS, BETA), exact)


def test_equation_3_and_4_under_the_demonstrations_policy() -> None:
    """Sampled from π_β, the unified advantage r + μ·π_β/π_θ is the whole of ∇J_μ in one estimator."""
    theta = leaf()
    exact = gradient(common_objective(theta), theta)
    unified = REWARDS + MU * TREE.probabilities(BETA) / TREE.probabilities(THETA)
    assert_equal(expectation(estimator("trajectory"), BETA, unified, BETA), exact)


@pytest.mark.parametrize("reference", [OLD, REFERENCE], ids=["old", "frozen"])
def test_the_trust_region_of_b2(reference: Tensor) -> None:
    strength = 0.3
    theta = leaf()
    exact = gradient(common_objective(theta) - strength * kl(theta, reference), theta)
    sft_term = MU * expectation(algorithm("sft", aggregation="token_sum"), BETA, REWARDS, BETA)
    on_policy = expectation(estimator("current", trust_region=strength), THETA, REWARDS, THETA, reference)
    assert_equal(on_policy + sft_term, exact)
    # The same through Eq. 3 with samples of another policy.
    off_policy = expectation(estimator("trajectory", trust_region=strength), OLD, REWARDS, OLD, reference)
    assert_equal(off_policy + sft_term, exact)


@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0], ids=["outside", "both", "inside"])
@pytest.mark.parametrize("level", ["trajectory", "token"])
def test_equation_21_is_the_gradient_of_ppos_surrogate(clip: float, level: str) -> None:
    """§B.3: min(r·A, clip(r)·A) under π_old, differentiated, is the masked estimator inside and outside the trust
    region."""
    centred = REWARDS - 0.5
    theta = leaf()
    log_ratio = TREE.logp(theta) - TREE.logp(OLD)
    ratio = log_ratio.sum(1).exp() if level == "trajectory" else log_ratio.exp()
    adv = centred if level == "trajectory" else centred[:, None] * TREE.mask_NT
    surrogate = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    per_row = surrogate if level == "trajectory" else surrogate.sum(1)
    exact = gradient((TREE.probabilities(OLD) * per_row).sum(), theta)

    name = "rloo_sequence" if level == "trajectory" else "dapo"
    masked = dataclasses.replace(
        algorithm(name, clip_low=clip, clip_high=clip), advantage=advantages.reward, aggregation="token_sum"
    )
    assert_equal(expectation(masked, OLD, centred, OLD), exact)
    if clip == 100 and level == "trajectory":
        # Nothing is masked, so that it is ∇E[r] (a constant baseline has no expectation).
        assert_equal(exact, reward_gradient())
    if clip == 0.05:
        assert (exact - reward_gradient()).norm() > 1e-3


# KL penalties


def token_kl(first: Tensor, second: Tensor, states_from: Tensor) -> Tensor:
    """Σ over the states that `states_from`'s trajectories visit of KL(first‖second) of the next token."""
    p, q = torch.log_softmax(first, -1), torch.log_softmax(second, -1)
    by_state = (p.exp() * (p - q)).sum(-1)
    visits = torch.where(TREE.mask_NT, by_state[TREE.states_NT], 0.0).sum(1)
    return (TREE.probabilities(states_from) * visits).sum()


@pytest.mark.parametrize("estimate", ["k1", "k2", "k3"])
def test_what_the_kl_penalties_expect_on_policy(estimate: str) -> None:
    """k1 nothing; k2 the gradient of KL(π_θ‖π_ref), k3 that of KL(π_ref‖π_θ), by token where π_θ goes."""
    alg = estimator("current", kl_coefficient=0.4, kl_estimator=estimate)  # type: ignore[arg-type]
    actual = expectation(alg, THETA, torch.zeros_like(REWARDS), THETA, REFERENCE)
    theta = leaf()
    penalty = {
        "k1": 0 * theta.sum(),
        "k2": token_kl(theta, REFERENCE, THETA),
        "k3": token_kl(REFERENCE, theta, THETA),
    }[estimate]
    assert_equal(actual, gradient(-0.4 * penalty, theta))


# Every registered algorithm

G = 2


def group_estimates(alg: Algorithm, sampler: Tensor, values_NT: Tensor | None = None) -> Estimates:
    """Every batch of G rollouts of the question, drawn from `sampler`."""
    rows_CG, probabilities = batches(TREE, (TREE.probabilities(sampler), G))
    gradients = row_gradients(
        alg,
        TREE,
        rows_CG,
        logits=THETA,
        rollout_logits=sampler,
        rewards_N=REWARDS,
        reference_logits=REFERENCE,
        values_NT=torch.zeros(TREE.mask_NT.shape, dtype=torch.float64) if values_NT is None else values_NT,
    )
    return Estimates(gradients.sum(1), probabilities)


def exact_values() -> Tensor:
    """V^π(s) = E[r | s] at each token's state. f[N,T]."""
    p = TREE.probabilities(THETA)
    by_state = torch.zeros(TREE.shape[0], dtype=torch.float64)
    mass = torch.zeros_like(by_state)
    n, t = TREE.mask_NT.nonzero(as_tuple=True)
    by_state.index_add_(0, TREE.states_NT[n, t], (p * REWARDS)[n])
    mass.index_add_(0, TREE.states_NT[n, t], p[n])
    return torch.where(TREE.mask_NT, (by_state / mass)[TREE.states_NT], 0.0)


NEVER = {"clip_low": 1.0, "clip_high": float("inf")}
SMALL_GROUPS = {"rloo_sequence": NEVER, "pass_at_k": {"pass_k": 1}}
# What the estimator expects is exactly this multiple of ∇E[r], and why.
UNBIASED = {
    "on-policy": {
        "reinforce": 2.0,  # ±1 = 2R − 1 for R in {0, 1}
        "rloo": 1.0,  # the others' mean is independent of the row
        "rloo_sequence": 1.0,  # as rloo: the ratio is 1
        "dr_grpo": (1 - 1 / G) / 1024,  # a mean that holds the row itself shrinks R − mean by 1 − 1/G
        "luspo": 0.5 / (0.5**0.5 + 1e-6),  # R − mean, as above; two rows that differ have the std √½
        "maxrl": 1.0,  # of log p's expansion the first G − 1 terms, of which p is the first
    },
    "off-policy": {"rloo_sequence": 1.0},  # the row's whole ratio, unclipped: Lemma A3
}


@pytest.mark.parametrize("name", algorithm_names())
@pytest.mark.parametrize("where", ["on-policy", "off-policy"])
def test_the_unbiased_are_unbiased_and_the_others_bias_is_recorded(
    name: str, where: str, record_property: pytest.RecordProperty
) -> None:
    sampler = THETA if where == "on-policy" else OLD
    found = group_estimates(algorithm(name, **SMALL_GROUPS.get(name, {})), sampler)
    exact = reward_gradient()
    if name in UNBIASED[where]:
        assert_equal(found.mean, UNBIASED[where][name] * exact)
        return
    # Its own scale is not its bias: the best multiple of it is compared.
    scale = (found.mean @ exact) / (found.mean @ found.mean)
    bias = float((scale * found.mean - exact).norm() / exact.norm())
    record_property("relative_bias", bias)
    assert bias > 1e-4


@pytest.mark.parametrize(
    "name", ["grpo", "dapo", "cispo", "gspo", "reinforce_pp", "reinforce_pp_baseline", "kl_cov", "pass_at_k"]
)
def test_on_policy_every_group_advantage_points_along_the_reward_of_one_question(name: str) -> None:
    """With a reward of 0 or 1 and sums over tokens, Â depends on the row through its reward alone, so the expectation
    is a positive multiple of ∇E[r]: dividing by the std weighs questions, and means over lengths are what bends the
    rest."""
    alg = algorithm(name, aggregation="token_sum", **SMALL_GROUPS.get(name, {}))
    mean, exact = group_estimates(alg, THETA).mean, reward_gradient()
    scale = (mean @ exact) / (exact @ exact)
    assert scale > 0
    assert_equal(mean, scale * exact)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_maxrl_expects_the_first_terms_of_the_gradient_of_log_p(size: int) -> None:
    """log p = −Σ_k (1 − p)^k/k, of which size − 1 terms: ∇p·Σ_{k<size−1} (1 − p)^k."""
    expected = expectation(algorithm("maxrl"), THETA, REWARDS, THETA, REFERENCE, size)
    failure = 1 - TREE.probabilities(THETA) @ REWARDS
    terms_of_log = sum(failure**k for k in range(size - 1))
    assert_equal(expected, terms_of_log * reward_gradient())


@pytest.mark.parametrize("level", ["rollout", "trajectory"])
def test_a_tokens_own_ratio_is_biased_off_policy_and_the_rows_is_not(level: str) -> None:
    exact = reward_gradient()
    assert_equal(expectation(estimator(level), THETA, REWARDS, THETA), exact)
    off_policy = expectation(estimator(level), OLD, REWARDS, OLD)
    if level == "trajectory":
        assert_equal(off_policy, exact)
    else:
        assert (off_policy - exact).norm() / exact.norm() > 0.01


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 0.95, 1.0])
def test_ppo_on_policy_is_unbiased_with_exact_values_and_with_any_values_at_lambda_1(gae_lambda: float) -> None:
    alg = algorithm("ppo", aggregation="token_sum", gae_lambda=gae_lambda)
    assert_equal(group_estimates(alg, THETA, exact_values()).mean, reward_gradient())
    # A baseline may depend on the state: values are a number a prefix here, and wrong.
    wrong = torch.where(TREE.mask_NT, random_logits()[:, 0][TREE.states_NT], 0.0)
    error = (group_estimates(alg, THETA, wrong).mean - reward_gradient()).norm()
    assert (error < 1e-10) == (gae_lambda == 1.0)


def test_exact_values_lower_the_variance() -> None:
    alg = algorithm("ppo", aggregation="token_sum", gae_lambda=1.0)
    assert group_estimates(alg, THETA, exact_values()).variance < group_estimates(alg, THETA).variance


def test_mean_squared_error_is_squared_bias_plus_variance() -> None:
    found = group_estimates(algorithm("rloo"), OLD)
    exact = reward_gradient()
    assert found.mean_squared_error(exact) == pytest.approx(found.bias(exact) ** 2 + found.variance, abs=1e-12)
