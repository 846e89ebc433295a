"""The registry is Table 1: one declaration a row, and how to find it by name."""

from __future__ import annotations

from typing import Any

from unigrad.errors import did_you_mean
from unigrad.estimator import advantages, masks, references, terms
from unigrad.estimator.algorithm import Algorithm
from unigrad.estimator.references import truncated
from unigrad.estimator.terms import kl_penalty, offline_kl, trust_region
from unigrad.options import add

_REGISTRY: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> Algorithm:
    """Add an algorithm, and its options to `unigrad.options`. Raises ValueError where a name of either is taken."""
    if algorithm.name in _REGISTRY:
        raise ValueError(f"an algorithm named {algorithm.name!r} is registered already")
    add(algorithm.declarations.values())
    _REGISTRY[algorithm.name] = algorithm
    return algorithm


def algorithm_names() -> tuple[str, ...]:
    """The registered names, in the order of Table 1."""
    return tuple(_REGISTRY)


def algorithm(name: str, **options: Any) -> Algorithm:
    """A registered algorithm with these options. Raises ValueError on an unknown name or option, naming the nearest."""
    if name not in _REGISTRY:
        raise ValueError(f"unknown algorithm {name!r}{did_you_mean(name, _REGISTRY)}")
    return _REGISTRY[name].with_options(**options)


OPTIONAL = (masks.off_policy_sequence, masks.high_entropy)
"""The masks that any rollout can wear, off unless their option is given."""
CLIPPED = (masks.ppo_clip, *OPTIONAL)
CAPS = (masks.shaped_max, masks.shaped_min)
"""LUFFY's, off unless their option is given."""

# What a row does not name, it does not have. Off until their option is given: `truncated` (engine_cap), `trust_region`,
# `kl_penalty` and `offline_kl` (kl_coefficient).
# fmt: off
for _row in (
    Algorithm(name="sft", aggregation="sequence_mean", source="Eq. 12, §A.1",
        reference=references.current, advantage=advantages.one, shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="reinforce", aggregation="token_sum", source="Williams 1992; Ahmadian et al. 2024, arXiv:2402.14740",
        reference=references.current, advantage=advantages.plus_minus_one,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="ppo", aggregation="token_mean",
        source="Schulman et al. 2017, arXiv:1707.06347; Eq. 16–18 (there averaged as sequence_mean)",
        reference=references.rollout, advantage=advantages.gae, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="grpo", aggregation="sequence_mean", source="Shao et al. 2024, arXiv:2402.03300; Eq. 16–18",
        reference=references.rollout, advantage=advantages.group_zscore, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="dr_grpo", aggregation="constant", source="Liu et al. 2025, arXiv:2503.20783",
        reference=references.rollout, advantage=advantages.group_centred, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="dapo", aggregation="token_mean", source="Yu et al. 2025, arXiv:2503.14476",
        reference=references.rollout, advantage=advantages.group_zscore, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,), options={"clip_high": 0.28}),
    Algorithm(name="rloo", aggregation="token_sum",
        source="Ahmadian et al. 2024, arXiv:2402.14740 (ratios by token; TRL's: rloo_sequence)",
        reference=references.rollout, advantage=advantages.leave_one_out,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="rloo_sequence", aggregation="token_sum",
        source="Ahmadian et al. 2024, arXiv:2402.14740 (by row, as in TRL); Eq. 3, §B.3",
        reference=references.trajectory, advantage=advantages.leave_one_out, masks=(masks.sequence_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="reinforce_pp", aggregation="token_mean", source="Hu et al. 2025, arXiv:2501.03262",
        reference=references.rollout, advantage=advantages.reinforce_pp, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="reinforce_pp_baseline", aggregation="token_mean", source="Hu et al. 2025, arXiv:2501.03262",
        reference=references.rollout, advantage=advantages.reinforce_pp_baseline, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="cispo", aggregation="token_mean", source="MiniMax-M1 2025, arXiv:2506.13585",
        reference=references.capped, advantage=advantages.group_zscore, masks=(masks.cispo_mask,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="gspo", aggregation="sequence_mean", source="Zheng et al. 2025, arXiv:2507.18071",
        reference=references.sequence, advantage=advantages.group_zscore, masks=(masks.sequence_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,),
        options={"clip_low": 3e-4, "clip_high": 4e-4}),
    Algorithm(name="clip_cov", aggregation="token_mean", source="Cui et al. 2025, arXiv:2505.22617",
        reference=references.rollout, advantage=advantages.group_zscore, masks=(masks.ppo_clip, masks.clip_cov),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="kl_cov", aggregation="token_mean", source="Cui et al. 2025, arXiv:2505.22617",
        reference=references.rollout, advantage=advantages.group_zscore,
        correction=truncated, shaping=trust_region, penalties=(terms.kl_cov, kl_penalty)),
    Algorithm(name="high_entropy", aggregation="token_mean",
        source="Wang et al. 2025, arXiv:2506.01939 (DAPO on the top fifth of tokens)",
        reference=references.rollout, advantage=advantages.group_zscore, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,),
        options={"clip_high": 0.28, "high_entropy_share": 0.2}),
    Algorithm(name="pass_at_k", aggregation="sequence_mean", source="Chen et al. 2025, arXiv:2508.10751",
        reference=references.rollout, advantage=advantages.pass_at_k, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="maxrl", aggregation="token_sum", source="Tajwar et al. 2026, arXiv:2602.02710",
        reference=references.rollout, advantage=advantages.over_mean, masks=CLIPPED,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="sapo", aggregation="sequence_mean", source="Gao et al. 2025, arXiv:2511.20347",
        reference=references.soft_gate, advantage=advantages.group_zscore, masks=OPTIONAL,
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="gmpo", aggregation="sequence_mean", source="Zhao et al. 2025, arXiv:2507.20673",
        reference=references.geometric, advantage=advantages.group_zscore, masks=(masks.log_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="luspo", aggregation="token_sum", source="Liu et al. 2026, arXiv:2602.05261 (gspo times the length)",
        reference=references.sequence, advantage=advantages.group_zscore, masks=(masks.sequence_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,),
        options={"clip_low": 2e-3, "clip_high": 2.5e-3}),
    Algorithm(name="vespo", aggregation="token_mean", source="2026, arXiv:2602.10693",
        reference=references.gamma_kernel, advantage=advantages.group_zscore, masks=OPTIONAL,
        shaping=trust_region, penalties=(kl_penalty,)),
    Algorithm(name="dppo", aggregation="token_mean", source="Qi et al. 2026, arXiv:2602.04879 (Binary-TV)",
        reference=references.capped, advantage=advantages.group_zscore, masks=(masks.tv_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,), options={"cap_high": 19.0}),
    Algorithm(name="dppo_kl", aggregation="token_mean", source="Qi et al. 2026, arXiv:2602.04879 (Binary-KL)",
        reference=references.capped, advantage=advantages.group_zscore, masks=(masks.kl_clip,),
        correction=truncated, shaping=trust_region, penalties=(kl_penalty,),
        options={"cap_high": 19.0, "divergence_low": 0.05, "divergence_high": 0.05}),
    Algorithm(name="srft", aggregation="sequence_mean",
        source="Fu et al. 2025, arXiv:2506.19767 (offline part); Eq. 19–20",
        reference=references.one, advantage=advantages.union_zscore, shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="srft_sft", aggregation="sequence_mean", source="Fu et al. 2025, arXiv:2506.19767 (SFT term)",
        reference=references.current, advantage=advantages.one, shaping=terms.certain_rows, penalties=(offline_kl,)),
    Algorithm(name="srft_rollouts", aggregation="sequence_mean",
        source="Fu et al. 2025, arXiv:2506.19767 (rollouts), as HPT's authors implement it",
        reference=references.current, advantage=advantages.plus_minus_one,
        correction=truncated, shaping=terms.open_successes, penalties=(kl_penalty,)),
    Algorithm(name="luffy", aggregation="token_mean", source="Yan et al. 2025, arXiv:2504.14945 (offline part)",
        reference=references.shaped, advantage=advantages.union_zscore, masks=CAPS,
        shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="luffy_split", aggregation="token_mean",
        source="Yan et al. 2025, arXiv:2504.14945 (offline part, as its code's split advantages)",
        reference=references.shaped, advantage=advantages.against_rollouts, masks=CAPS,
        shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="dft", aggregation="token_mean", source="Wu et al. 2025, arXiv:2508.05629",
        reference=references.one, advantage=advantages.one, shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="chord_phi", aggregation="token_mean", source="Zhang et al. 2025, arXiv:2508.11408 (CHORD-φ)",
        reference=references.uncertain, advantage=advantages.one, shaping=trust_region, penalties=(offline_kl,)),
    Algorithm(name="dpo", aggregation="token_sum", source="Rafailov et al. 2023, arXiv:2305.18290",
        reference=references.current, advantage=advantages.reward, shaping=terms.preference, penalties=(offline_kl,)),
):
    register(_row)
# fmt: on
