"""What may never matter, for every registered algorithm: row order, padding, how a batch is split; and never a NaN.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unigrad.estimator import Algorithm, algorithm, algorithm_names, surrogate

NAMES = algorithm_names()
# So that small batches give these something to do.
OPTIONS = {
    "pass_at_k": {"pass_k": 2},
    "clip_cov": {"cov_share": 0.2, "cov_low": 0.0},
    "kl_cov": {"kl_cov_share": 0.2},
    "gspo": {"clip_low": 0.1, "clip_high": 0.1},
    "luspo": {"clip_low": 0.1, "clip_high": 0.1},
    "gmpo": {"log_clip_low": 0.2, "log_clip_high": 0.2},
    "dppo": {"divergence_low": 0.1, "divergence_high": 0.1},
}
EVERYTHING = [algorithm(name, **OPTIONS.get(name, {})) for name in NAMES] + [
    algorithm("grpo", kl_coefficient=0.1, kl_estimator="k3", engine_cap=2.0, dual_clip=3.0, off_policy_delta=0.1),
    algorithm("reinforce", engine_cap=1.1, engine_correction="sequence_mask"),
    algorithm("reinforce", trust_region=0.1, kl_coefficient=0.1, kl_estimator="k2"),
    algorithm("cispo", mask_low=0.2, mask_high=0.2, cap_low=0.3),
    algorithm("ppo", whiten=True),
    algorithm("reinforce_pp", discount=0.9),
    algorithm("reinforce_pp_baseline", batch_statistics="tokens"),
    algorithm("grpo", std_over="batch", kl_coefficient=0.1, kl_correction=True, kl_clamp=10.0),
    algorithm("luffy", shaping="p_logp", off_policy_max_clip=0.5, off_policy_min_clip=0.1, kl_coefficient=0.1),
    algorithm("rloo", normalise_advantages=True, kl_coefficient=0.1, kl_estimator="abs"),
]
OTHERS = ["grpo with all", "masked rows", "reinforce with KL", "cispo with mask", "ppo whitened", "discounted"]
OTHERS += ["whitened baseline", "grpo over the batch", "luffy with caps", "rloo normalised"]
every_algorithm = pytest.mark.parametrize("alg", EVERYTHING, ids=[*NAMES, *OTHERS])
quickly = settings(max_examples=15, deadline=None, derandomize=True)


@dataclass
class Batch:
    logp: Tensor
    old: Tensor
    reference: Tensor
    engine: Tensor
    entropy: Tensor
    values: Tensor
    mask: Tensor
    rewards: Tensor
    groups: Tensor
    on_policy: Tensor

    def take(self, rows: Tensor | slice) -> Batch:
        return Batch(*(getattr(self, each.name)[rows] for each in fields(self)))

    def padded(self, value: float) -> Batch:
        padding = self.logp.new_full((len(self.logp), 3), value)
        grown = {
            name: torch.cat([getattr(self, name), padding], dim=1)
            for name in ("logp", "old", "reference", "engine", "entropy", "values")
        }
        rest = {name: getattr(self, name) for name in ("rewards", "groups", "on_policy")}
        return Batch(**grown, **rest, mask=torch.cat([self.mask, torch.zeros_like(padding).bool()], dim=1))

    def advantages(self, alg: Algorithm) -> Tensor:
        return alg.advantages(self.rewards, self.groups, self.on_policy, values=self.values, mask=self.mask)

    def weights(self, alg: Algorithm, adv: Tensor) -> Tensor:
        return alg.weights(
            self.logp,
            self.old,
            adv,
            self.mask,
            entropy=self.entropy,
            reference_logp=self.reference,
            engine_logp=self.engine,
            groups=self.groups,
        )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    rows, tokens = draw(st.integers(1, 7)), draw(st.integers(1, 5))

    def uniform() -> Tensor:
        return torch.rand(rows, tokens, generator=generator, dtype=torch.float64)

    old = -3 * uniform()
    lengths = torch.randint(0, tokens + 1, (rows, 1), generator=generator)
    return Batch(
        logp=old + uniform() - 0.5,
        old=old,
        reference=-3 * uniform(),
        engine=old + 0.2 * uniform(),
        entropy=uniform(),
        values=uniform(),
        mask=torch.arange(tokens) < lengths,
        rewards=torch.randint(0, 3, (rows,), generator=generator).double() / 2,
        groups=torch.randint(0, 3, (rows,), generator=generator),
        on_policy=torch.rand(rows, generator=generator) < 0.8,
    )


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@every_algorithm
@quickly
@given(b=batches(), seed=st.integers(0, 2**32))
def test_row_order(alg: Algorithm, b: Batch, seed: int) -> None:
    order = torch.randperm(len(b.logp), generator=torch.Generator().manual_seed(seed))
    adv, shuffled_adv = b.advantages(alg), b.take(order).advantages(alg)
    assert_equal(shuffled_adv, adv[order])
    assert_equal(b.take(order).weights(alg, shuffled_adv), b.weights(alg, adv)[order])


@every_algorithm
@quickly
@given(b=batches(), value=st.sampled_from([0.0, 1e30, float("nan"), float("-inf")]))
def test_padding(alg: Algorithm, b: Batch, value: float) -> None:
    width = b.logp.shape[1]
    adv, padded_adv = b.advantages(alg), b.padded(value).advantages(alg)
    assert_equal(padded_adv[..., :width] if padded_adv.dim() == 2 else padded_adv, adv)
    padded = b.padded(value).weights(alg, padded_adv)
    assert_equal(padded[:, :width], b.weights(alg, adv))
    assert (padded[:, width:] == 0).all()


@every_algorithm
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant", "token_sum"])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(b=batches(), cuts=st.sets(st.integers(1, 6), max_size=3))
def test_micro_batches(alg: Algorithm, aggregation: str, b: Batch, cuts: set[int]) -> None:
    """Each part of a split batch under the whole's denominator: the losses add up. Whole-batch weights come first."""
    alg = alg.with_options(aggregation=aggregation)
    adv = b.advantages(alg)
    weights = b.weights(alg, adv)
    whole = surrogate(b.logp, weights, alg.normaliser(b.mask.sum(1)))
    denominator = float(b.mask.sum()) if aggregation == "token_mean" else float(len(b.logp))
    ends = [0, *sorted(cut for cut in cuts if cut < len(b.logp)), len(b.logp)]
    parts = []
    for start, end in pairwise(ends):
        rows = slice(start, end)
        part = b.take(rows)
        own = weights[rows] if alg.whole_batch else part.weights(alg, adv[rows])
        parts.append(surrogate(part.logp, own, alg.normaliser(part.mask.sum(1), denominator)))
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-10, atol=1e-12)


CENTRED = ["grpo", "dr_grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "srft", "dapo", "gspo", "cispo"]


@pytest.mark.parametrize("name", CENTRED)
@quickly
@given(b=batches(), shift=st.floats(-10, 10))
def test_a_shift_of_all_rewards(name: str, b: Batch, shift: float) -> None:
    adv = b.advantages(algorithm(name))
    b.rewards = b.rewards + shift
    torch.testing.assert_close(b.advantages(algorithm(name)), adv, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["grpo", "reinforce_pp", "reinforce_pp_baseline", "srft", "luffy", "gspo", "cispo"])
@quickly
@given(b=batches(), scale=st.floats(0.01, 100))
def test_a_scale_of_all_rewards_for_zscores(name: str, b: Batch, scale: float) -> None:
    alg = algorithm(name, std_epsilon=0.0)
    adv = b.advantages(alg)
    b.rewards = b.rewards * scale
    torch.testing.assert_close(b.advantages(alg), adv, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["dr_grpo", "rloo"])
@quickly
@given(b=batches(), scale=st.floats(0.01, 100))
def test_a_scale_of_all_rewards_scales_centred_advantages(name: str, b: Batch, scale: float) -> None:
    adv = b.advantages(algorithm(name))
    b.rewards = b.rewards * scale
    torch.testing.assert_close(b.advantages(algorithm(name)), scale * adv, rtol=1e-9, atol=1e-12)


LOGPS = st.one_of(st.floats(-1e4, 0, width=32), st.sampled_from([0.0, -1e4, -1e-30]))


@every_algorithm
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_weights_are_finite_for_any_finite_input(alg: Algorithm, data: st.DataObject) -> None:
    rows, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))

    def draw(numbers: st.SearchStrategy[float]) -> Tensor:
        values = data.draw(st.lists(numbers, min_size=rows * tokens, max_size=rows * tokens))
        return torch.tensor(values, dtype=torch.float32).reshape(rows, tokens)

    b = Batch(
        logp=draw(LOGPS),
        old=draw(LOGPS),
        reference=draw(LOGPS),
        engine=draw(LOGPS),
        entropy=draw(st.floats(0, 12, width=32)),
        values=draw(st.floats(-1e3, 1e3, width=32)),
        mask=draw(st.sampled_from([0.0, 1.0])).bool(),
        rewards=draw(st.floats(-1e3, 1e3, width=32))[:, 0],
        groups=draw(st.sampled_from([0.0, 1.0]))[:, 0],
        on_policy=draw(st.sampled_from([0.0, 1.0]))[:, 0].bool(),
    )
    if alg.name == "maxrl":
        b.rewards = b.rewards.abs()  # it refuses others
    adv = b.advantages(alg)
    assert adv.isfinite().all()
    weights = b.weights(alg, adv)
    assert weights.isfinite().all()
    assert (weights[~b.mask] == 0).all()


@every_algorithm
def test_rows_without_tokens_have_no_weight_and_no_gradient(alg: Algorithm) -> None:
    zeros = torch.zeros(4, 2, dtype=torch.float64)
    b = Batch(
        *(zeros,) * 6,
        mask=zeros.bool(),
        rewards=torch.tensor([1.0, 0, 1, 0], dtype=torch.float64),
        groups=torch.tensor([0, 0, 1, 1]),
        on_policy=torch.ones(4, dtype=torch.bool),
    )
    assert (b.weights(alg, b.advantages(alg)) == 0).all()
