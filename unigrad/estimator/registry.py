"""The registry is Table 1: one declaration a row, and how to find it by name."""

from __future__ import annotations

from typing import Any

from unigrad.estimator import advantages, masks, references, terms
from unigrad.estimator.algorithm import Algorithm, nearest

_REGISTRY: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> Algorithm:
    """Add an algorithm to the registry. Raises ValueError if its name is taken."""
    if algorithm.name in _REGISTRY:
        raise ValueError(f"an algorithm named {algorithm.name!r} is registered already")
    _REGISTRY[algorithm.name] = algorithm
    return algorithm


def algorithm_names() -> tuple[str, ...]:
    """The registered names, in the order of Table 1."""
    return tuple(_REGISTRY)


def algorithm(name: str, **options: Any) -> Algorithm:
    """A registered algorithm with these options. Raises ValueError on an unknown name or option, naming the nearest."""
    if name not in _REGISTRY:
        raise ValueError(f"unknown algorithm {name!r}{nearest(name, _REGISTRY)}")
    return _REGISTRY[name].with_options(**options)


CLIPPED = (masks.ppo_clip, masks.off_policy_sequence, masks.high_entropy)
"""PPO's clip, and the masks that any rollout can wear besides, off unless their option is given."""

register(
    Algorithm(
        name="sft",
        source="Eq. 12, §A.1",
        reference=references.current,
        advantage=advantages.one,
        correction=None,
        aggregation="sequence_mean",
        estimator="∇π_θ · 1/π_θ",
    )
)
register(
    Algorithm(
        name="reinforce",
        source="Williams 1992; Ahmadian et al. 2024, arXiv:2402.14740",
        reference=references.current,
        advantage=advantages.plus_minus_one,
        aggregation="token_sum",
        estimator="∇π_θ · Â/π_θ",
    )
)
register(
    Algorithm(
        name="ppo",
        source="Schulman et al. 2017, arXiv:1707.06347; Eq. 16–18 (there averaged as sequence_mean)",
        reference=references.rollout,
        advantage=advantages.gae,
        masks=CLIPPED,
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="grpo",
        source="Shao et al. 2024, arXiv:2402.03300; Eq. 16–18",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        masks=CLIPPED,
        aggregation="sequence_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="dr_grpo",
        source="Liu et al. 2025, arXiv:2503.20783",
        reference=references.rollout,
        advantage=advantages.group_centred,
        masks=CLIPPED,
        aggregation="constant",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="dapo",
        source="Yu et al. 2025, arXiv:2503.14476",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        masks=CLIPPED,
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
        options={"clip_high": 0.28},
    )
)
register(
    Algorithm(
        name="rloo",
        source="Ahmadian et al. 2024, arXiv:2402.14740 (ratios by token; TRL's: rloo_sequence)",
        reference=references.rollout,
        advantage=advantages.leave_one_out,
        aggregation="token_sum",
        estimator="∇π_θ · Â/π_old",
    )
)
register(
    Algorithm(
        name="rloo_sequence",
        source="Ahmadian et al. 2024, arXiv:2402.14740, with the row's ratio as in TRL; Eq. 3, §B.3",
        reference=references.trajectory,
        advantage=advantages.leave_one_out,
        masks=(masks.sequence_clip,),
        aggregation="token_sum",
        estimator="∇π_θ(τ) · Â·1_seq-clip/π_old(τ)",
    )
)
register(
    Algorithm(
        name="reinforce_pp",
        source="Hu et al. 2025, arXiv:2501.03262",
        reference=references.rollout,
        advantage=advantages.reinforce_pp,
        masks=CLIPPED,
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="reinforce_pp_baseline",
        source="Hu et al. 2025, arXiv:2501.03262",
        reference=references.rollout,
        advantage=advantages.reinforce_pp_baseline,
        masks=CLIPPED,
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="cispo",
        source="MiniMax-M1 2025, arXiv:2506.13585",
        reference=references.capped,
        advantage=advantages.group_zscore,
        masks=(masks.cispo_mask,),
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_CIS-mask·clip(π_θ/π_old)/π_θ",
    )
)
register(
    Algorithm(
        name="gspo",
        source="Zheng et al. 2025, arXiv:2507.18071",
        reference=references.sequence,
        advantage=advantages.group_zscore,
        masks=(masks.sequence_clip,),
        aggregation="sequence_mean",
        estimator="∇π_θ · Â·1_seq-clip/π_ref",
        options={"clip_low": 3e-4, "clip_high": 4e-4},
    )
)
register(
    Algorithm(
        name="clip_cov",
        source="Cui et al. 2025, arXiv:2505.22617",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        masks=(masks.ppo_clip, masks.clip_cov),
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip·1_cov/π_old",
    )
)
register(
    Algorithm(
        name="kl_cov",
        source="Cui et al. 2025, arXiv:2505.22617",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        penalties=(terms.kl_cov, terms.kl_penalty),
        aggregation="token_mean",
        estimator="∇π_θ · Â/π_old",
    )
)
register(
    Algorithm(
        name="high_entropy",
        source="Wang et al. 2025, arXiv:2506.01939 (DAPO on the top fifth of tokens)",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        masks=CLIPPED,
        aggregation="token_mean",
        estimator="∇π_θ · Â·1_clip·1_top-entropy/π_old",
        options={"clip_high": 0.28, "high_entropy_share": 0.2},
    )
)
register(
    Algorithm(
        name="pass_at_k",
        source="Chen et al. 2025, arXiv:2508.10751",
        reference=references.rollout,
        advantage=advantages.pass_at_k,
        masks=CLIPPED,
        aggregation="sequence_mean",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
register(
    Algorithm(
        name="srft",
        source="Fu et al. 2025, arXiv:2506.19767 (offline part); Eq. 19–20",
        reference=references.one,
        advantage=advantages.union_zscore,
        correction=None,
        aggregation="sequence_mean",
        estimator="∇π_θ · Â",
    )
)
register(
    Algorithm(
        name="srft_sft",
        source="Fu et al. 2025, arXiv:2506.19767 (SFT term)",
        reference=references.current,
        advantage=advantages.one,
        correction=None,
        shaping=terms.certain_rows,
        aggregation="sequence_mean",
        estimator="∇π_θ · s·e^−H/π_θ",
    )
)
register(
    Algorithm(
        name="srft_rollouts",
        source="Fu et al. 2025, arXiv:2506.19767 (rollouts), as HPT's authors implement it",
        reference=references.current,
        advantage=advantages.plus_minus_one,
        shaping=terms.open_successes,
        aggregation="sequence_mean",
        estimator="∇π_θ · Â/π_θ",
    )
)
register(
    Algorithm(
        name="luffy",
        source="Yan et al. 2025, arXiv:2504.14945 (offline part)",
        reference=references.shaped,
        advantage=advantages.union_zscore,
        correction=None,
        aggregation="token_mean",
        estimator="∇π_θ · Â·f'(π_θ)",
    )
)
register(
    Algorithm(
        name="dft",
        source="Wu et al. 2025, arXiv:2508.05629",
        reference=references.one,
        advantage=advantages.one,
        correction=None,
        aggregation="token_mean",
        estimator="∇π_θ · 1",
    )
)
register(
    Algorithm(
        name="chord",
        source="Zhang et al. 2025, arXiv:2508.11408 (CHORD-φ)",
        reference=references.uncertain,
        advantage=advantages.one,
        correction=None,
        aggregation="sequence_mean",
        estimator="∇π_θ · (1−π_θ)",
    )
)
register(
    Algorithm(
        name="dpo",
        source="Rafailov et al. 2023, arXiv:2305.18290",
        reference=references.current,
        advantage=advantages.reward,
        correction=None,
        shaping=terms.preference,
        aggregation="token_sum",
        estimator="∇π_θ · ±β·σ(−margin)/π_θ",
    )
)
