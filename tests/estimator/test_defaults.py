"""Every row's own numbers against those of its paper or, where the paper gives none, of the code that it names."""

from __future__ import annotations

import pytest

from unigrad.estimator import algorithm, algorithm_names

DEFAULTS: dict[str, dict[str, object]] = {
    # §A.1 and Eq. 16: 1/N Σ_i 1/|τ_i| Σ_t
    "sft": {"aggregation": "sequence_mean"},
    "reinforce": {"aggregation": "token_sum"},
    # Schulman et al. 2017: ε = 0.2, GAE's λ = 0.95; γ = 1, as in verl and TRL.
    "ppo": {"aggregation": "token_mean", "clip_low": 0.2, "clip_high": 0.2, "gamma": 1.0, "gae_lambda": 0.95},
    # Shao et al. 2024, Eq. 3: 1/G Σ 1/|o_i| Σ, PPO's ε, k3; no dual clip; the sample's std and 1e-6, as in verl.
    "grpo": {
        "aggregation": "sequence_mean", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None, "kl_estimator": "k3",
        "std_ddof": 1, "std_epsilon": 1e-6, "std_over": "group", "normalise_std": True, "kl_correction": False,
        "kl_clamp": None, "kl_coefficient": 0.0, "entropy_coefficient": 0.0, "engine_cap": None,
        "engine_correction": "token_truncate", "high_entropy_share": None, "off_policy_delta": None,
        "trust_region": 0.0,
    },
    # Liu et al. 2025: no |o_i| and no std; a constant instead.
    "dr_grpo": {"aggregation": "constant", "clip_low": 0.2, "clip_high": 0.2},
    # Yu et al. 2025, §4.1: ε_low 0.2, ε_high 0.28; Eq. 8: a mean over tokens.
    "dapo": {"aggregation": "token_mean", "clip_low": 0.2, "clip_high": 0.28, "std_ddof": 1},
    "rloo": {"aggregation": "token_sum", "normalise_advantages": False},
    "rloo_sequence": {"aggregation": "token_sum", "clip_low": 0.2, "clip_high": 0.2},
    "reinforce_pp": {"aggregation": "token_mean", "discount": None, "batch_statistics": "rows", "std_epsilon": 1e-6},
    "reinforce_pp_baseline": {"aggregation": "token_mean", "batch_statistics": "rows"},
    # MiniMax-M1: no lower bound, no mask of its own.
    "cispo": {
        "aggregation": "token_mean", "cap_low": 1.0, "cap_high": 0.28, "mask_low": None, "mask_high": None,
    },
    # Zheng et al. 2025, §5.1: 3e-4 and 4e-4.
    "gspo": {"aggregation": "sequence_mean", "clip_low": 3e-4, "clip_high": 4e-4},
    # Cui et al. 2025, and verl: r = 2e-4, bounds 1 and 5; KL-Cov: k = 2e-4, β = 1.
    "clip_cov": {
        "aggregation": "token_mean", "cov_share": 2e-4, "cov_low": 1.0, "cov_high": 5.0, "clip_low": 0.2,
        "clip_high": 0.2,
    },
    "kl_cov": {"aggregation": "token_mean", "kl_cov_share": 2e-4, "kl_cov_coefficient": 1.0},
    # Wang et al. 2025: DAPO on the top 20%.
    "high_entropy": {
        "aggregation": "token_mean", "clip_low": 0.2, "clip_high": 0.28, "high_entropy_share": 0.2,
    },
    # Chen et al. 2025: k = 4.
    "pass_at_k": {"aggregation": "sequence_mean", "pass_k": 4, "clip_low": 0.2, "clip_high": 0.2},
    "maxrl": {"aggregation": "token_sum", "clip_low": 0.2, "clip_high": 0.2},
    # Gao et al. 2025: τ_pos = 1, τ_neg = 1.05; 1/G Σ 1/|y_i| Σ.
    "sapo": {"aggregation": "sequence_mean", "tau_pos": 1.0, "tau_neg": 1.05},
    # Zhao et al. 2025: (e^−0.4, e^0.4).
    "gmpo": {"aggregation": "sequence_mean", "log_clip_low": 0.4, "log_clip_high": 0.4},
    # Liu et al. 2026, §5.1, as TRL quotes it.
    "luspo": {"aggregation": "token_sum", "clip_low": 2e-3, "clip_high": 2.5e-3},
    # The authors' code and TRL.
    "vespo": {
        "aggregation": "token_mean", "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0,
        "vespo_lambda_neg": 2.0,
    },
    # Qi et al. 2026: δ = 0.2 (TV), 0.05 (KL); the ratio up to 20, as verl.
    "dppo": {
        "aggregation": "token_mean", "cap_low": 1.0, "cap_high": 19.0, "divergence_low": 0.2, "divergence_high": 0.2,
    },
    "dppo_kl": {
        "aggregation": "token_mean", "cap_low": 1.0, "cap_high": 19.0, "divergence_low": 0.05, "divergence_high": 0.05,
    },
    # Fu et al. 2025: 0.5·e^−H and 0.1·e^H.
    "srft": {"aggregation": "sequence_mean", "std_ddof": 1},
    "srft_sft": {"aggregation": "sequence_mean", "sft_weight": 0.5},
    "srft_rollouts": {"aggregation": "sequence_mean", "success_weight": 0.1},
    # Yan et al. 2025: γ = 0.1, no cap; the other shapings' numbers are those of their mix_ppo_trainer.yaml.
    "luffy": {
        "aggregation": "token_mean", "shaping": "p_div_p", "shaping_gamma": 0.1, "shaping_weight": 0.1,
        "shaping_power": 0.5, "off_policy_max_clip": None, "off_policy_min_clip": None,
    },
    "luffy_split": {"aggregation": "token_mean", "shaping": "p_div_p", "shaping_gamma": 0.1},
    "dft": {"aggregation": "token_mean"},
    "chord_phi": {"aggregation": "token_mean"},
    # Rafailov et al. 2023: β = 0.1.
    "dpo": {"aggregation": "token_sum", "dpo_beta": 0.1},
}  # fmt: skip


def test_every_row_has_its_numbers_here() -> None:
    assert DEFAULTS.keys() == set(algorithm_names())


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_numbers_of_the_papers(name: str) -> None:
    own = algorithm(name).defaults()
    assert {option: own[option] for option in DEFAULTS[name]} == DEFAULTS[name]
