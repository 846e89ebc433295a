from __future__ import annotations

import math

import pytest
import torch

from unigrad.rollout import Sampling
from unigrad.rollout.sampler import draw, inverse_cdf, keep_top, trajectory_generator

PROBS = (0.4, 0.1, 0.3, 0.15, 0.05)


def uniforms(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sampling(**options: float) -> Sampling:
    return Sampling(num_generations=1, max_completion_length=1, **options)  # type: ignore[arg-type]


def kept(top_k: int = 0, top_p: float = 1.0) -> list[int]:
    return keep_top(torch.tensor([PROBS]), top_k, top_p)[0].nonzero()[:, 0].tolist()


class TestKeepTop:
    def test_whole(self) -> None:
        assert kept() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("top_k", "tokens"), [(1, [0]), (2, [0, 2]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
    )
    def test_top_k(self, top_k: int, tokens: list[int]) -> None:
        assert kept(top_k=top_k) == tokens

    @pytest.mark.parametrize(
        ("top_p", "tokens"),
        # Cumulated by rank: 0.4, 0.7, 0.85, 0.95, 1.
        [(1e-9, [0]), (0.39, [0]), (0.41, [0, 2]), (0.69, [0, 2]), (0.71, [0, 2, 3]), (0.96, [0, 1, 2, 3, 4])],
    )
    def test_top_p(self, top_p: float, tokens: list[int]) -> None:
        assert kept(top_p=top_p) == tokens

    def test_top_p_is_a_share_of_what_top_k_left(self) -> None:
        # The three left have 0.85: 0.4/0.85 = 0.47, 0.7/0.85 = 0.82. Of the whole, 0.8 would take the third too.
        assert kept(top_k=3, top_p=0.8) == [0, 2]

    def test_rows_are_independent(self) -> None:
        rows = torch.tensor([PROBS, (0.01, 0.97, 0.01, 0.005, 0.005)])
        assert (keep_top(rows, 0, 0.5) > 0).tolist() == [
            [True, False, True, False, False],
            [False, True, False, False, False],
        ]

    def test_a_nucleus_larger_than_the_first_guess(self) -> None:
        # 2,000 tokens of equal mass and, in the second row, one token that has nearly all.
        flat = torch.full((2000,), 1 / 2000)
        peaked = torch.full((2000,), 0.05 / 1999)
        peaked[7] = 0.95
        result = keep_top(torch.stack([flat, peaked]), 0, 0.9)
        assert (result[0] > 0).sum().item() == pytest.approx(1800, abs=1)
        assert result[1].nonzero()[:, 0].tolist() == [7]


class TestInverseCdf:
    def test_by_hand(self) -> None:
        # Quarters are exact in binary: token 0 has [0, 0.25), 2 has [0.25, 0.75), 3 has [0.75, 1).
        row = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
        numbers = uniforms(0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53)
        assert inverse_cdf(row.expand(6, 4), numbers).tolist() == [0, 0, 2, 2, 3, 3]

    def test_weights_need_not_sum_to_one(self) -> None:
        row = torch.tensor([[0.0, 0.02, 0.02, 0.0]])
        assert inverse_cdf(row.expand(4, 4), uniforms(0, 0.49, 0.51, 1 - 2**-53)).tolist() == [1, 1, 2, 2]

    def test_never_a_zero_and_never_past_the_end(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weights = torch.rand(400, 999, generator=generator).pow(20).softmax(-1)
        weights[torch.rand(400, 999, generator=generator) < 0.9] = 0
        for number in (0.0, 0.5, 1 - 2**-53):
            tokens = inverse_cdf(weights, torch.full((400,), number, dtype=torch.float64))
            assert (weights.gather(1, tokens[:, None]) > 0).all()


class TestDraw:
    def test_logprob_and_entropy_by_hand(self) -> None:
        # At temperature 2 the logits 2·ln p give p back.
        logits = 2 * torch.tensor([[0.5, 0.25, 0.25]]).log()
        tokens, logps, entropies = draw(logits, sampling(temperature=2.0), uniforms(0.6))
        assert tokens.tolist() == [1]
        assert logps.item() == pytest.approx(math.log(0.25), abs=1e-6)
        assert entropies.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)

    def test_filters_change_the_draw_and_not_the_logprob(self) -> None:
        logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
        tokens, logps, entropies = draw(logits, sampling(top_k=1), uniforms(0.99))
        assert tokens.tolist() == [0]
        assert logps.item() == pytest.approx(math.log(0.5), abs=1e-6)
        assert entropies.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)

    def test_greedy_reports_temperature_one(self) -> None:
        tokens, logps, _ = draw(torch.tensor([PROBS]).log(), sampling(temperature=0.0), uniforms(0.99))
        assert tokens.tolist() == [0]
        assert logps.item() == pytest.approx(math.log(0.4), abs=1e-6)

    def test_a_token_ruled_out_by_the_model(self) -> None:
        logits = torch.tensor([[0.0, -math.inf, 0.0]])
        tokens, _, entropies = draw(logits.expand(2, 3), sampling(), uniforms(0.49, 0.51))
        assert tokens.tolist() == [0, 2]
        assert entropies.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)

    @pytest.mark.parametrize(
        ("options", "mass"),
        [({}, 0.0), ({"top_k": 2}, 0.3), ({"top_p": 0.6}, 0.3), ({"top_k": 4, "top_p": 0.4}, 0.6)],
    )
    def test_the_mass_that_is_cut_off(self, options: dict[str, float], mass: float) -> None:
        cut = torch.full((2,), -1.0)
        probs = torch.tensor([[0.1, 0.4, 0.15, 0.3, 0.05], [0.4, 0.3, 0.15, 0.1, 0.05]])
        draw(probs.log(), sampling(**options), uniforms(0.5, 0.5), cut)
        assert cut.tolist() == pytest.approx([mass, mass], abs=1e-6)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_logits_that_are_not_finite(self, bad: float) -> None:
        with pytest.raises(FloatingPointError, match="not finite"):
            draw(torch.tensor([[0.0, bad, 0.0]]), sampling(), uniforms(0.5))

    def test_rows_in_parts_equal_rows_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
        numbers = torch.linspace(0, 0.99, 7, dtype=torch.float64)
        whole = draw(logits, sampling(), numbers)
        monkeypatch.setattr("unigrad.rollout.sampler._PART_CPU", 25)  # two rows a part
        for once, parts in zip(whole, draw(logits, sampling(), numbers), strict=True):
            assert torch.equal(once, parts)

    def test_frequencies_follow_the_distribution(self) -> None:
        count = 20_000
        numbers = torch.from_numpy(trajectory_generator(0, "frequencies", 0).random(count))
        tokens, _, _ = draw(torch.tensor([PROBS]).log().expand(count, 5), sampling(), numbers)
        observed = torch.bincount(tokens, minlength=5).double()
        expected = count * torch.tensor(PROBS, dtype=torch.float64)
        # Chi-square with 4 degrees of freedom: 18.5 is passed once in 1,000 by chance; the seed is fixed.
        assert ((observed - expected) ** 2 / expected).sum().item() < 18.5


class TestTrajectoryGenerator:
    def test_depends_on_its_arguments_alone(self) -> None:
        assert (
            trajectory_generator(3, "gsm8k-1", 2).random(5).tolist()
            == trajectory_generator(3, "gsm8k-1", 2).random(5).tolist()
        )

    def test_any_argument_changes_the_numbers(self) -> None:
        arguments = [
            (0, "a", 0),
            (1, "a", 0),
            (0, "b", 0),
            (0, "a", 1),
            (-1, "a", 0),
            (0, "1 a", 1),
            (0, "", 11),
            (2**70, "a", 0),
        ]
        assert len({trajectory_generator(*each).random() for each in arguments}) == len(arguments)

    def test_one_at_a_time_equals_all_at_once(self) -> None:
        generator = trajectory_generator(0, "a", 0)
        assert [generator.random() for _ in range(6)] == trajectory_generator(0, "a", 0).random(6).tolist()

    def test_the_numbers_are_pinned(self) -> None:
        # A change here changes every run that was ever recorded with a seed.
        assert trajectory_generator(0, "a", 0).random(2).tolist() == [0.9729113336702342, 0.16137536322174106]


def test_a_nucleus_too_small_for_a_number_holds_the_likeliest_token() -> None:
    probs_BV = torch.tensor([[0.2, 0.5, 0.3]])
    assert keep_top(probs_BV, 0, 1e-300).tolist() == [[0.0, 0.5, 0.0]]
