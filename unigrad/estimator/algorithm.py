"""An algorithm is one choice of each part of Eq. 6 plus an aggregation; the registry is Table 1."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unigrad.estimator import advantages, masks, references
from unigrad.estimator.objective import AGGREGATIONS, Aggregation, normaliser, surrogate
from unigrad.estimator.part import Part

MAX_LOG_RATIO = 20.0
"""Ratios are kept within exp(±20), as verl does: beyond it a weight is noise, and float32 would soon overflow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Algorithm:
    """A row of Table 1: w_t = 1_stable · Â · π_θ/π_ref, and how the token sums become a loss.

    Shapes: B rows, T tokens; `mask` is true on the completion's tokens, aligned with the log-probs' targets.
    """

    name: str
    source: str
    reference: Part
    advantage: Part
    mask: Part
    aggregation: Aggregation
    estimator: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, **options: Any) -> Algorithm:
        """The same algorithm with other options. Raises ValueError on an unknown one, naming the nearest."""
        known = self.defaults()
        for name in options:
            if name not in known:
                raise ValueError(f"algorithm {self.name!r} has no option {name!r}{nearest(name, known)}")
        chosen = options.get("aggregation", self.aggregation)
        if chosen not in AGGREGATIONS:
            raise ValueError(f"unknown aggregation {chosen!r}{nearest(str(chosen), AGGREGATIONS)}")
        length = options.get("constant_length", 1)
        if length < 1:
            raise ValueError(f"constant_length must be at least 1, not {length}")
        return Algorithm(**{**vars(self), "options": {**self.options, **options}, "aggregation": chosen})

    def defaults(self) -> dict[str, Any]:
        """Every option with its value: the parts' own, the aggregation, and what `options` changed."""
        own: dict[str, Any] = {"aggregation": self.aggregation, "constant_length": 1024}
        for each in (self.reference, self.advantage, self.mask):
            own.update(each.options)
        return {**own, **self.options}

    @property
    def is_relative(self) -> bool:
        """Whether a trajectory's advantage comes from its group, so that a group of one never trains."""
        return "groups" in self.advantage.statistics

    def advantages(self, rewards: Tensor, groups: Tensor, on_policy: Tensor | None = None) -> Tensor:
        """Â, one a row, f[B]: rewards f[B], groups i[B] (equal numbers: one question), on_policy b[B] (None: all)."""
        _check("rewards", rewards, 1)
        _check("groups", groups, 1, like=rewards)
        if on_policy is None:
            on_policy = torch.ones_like(rewards, dtype=torch.bool)
        _check("on_policy", on_policy, 1, like=rewards)
        statistics = {"rewards": rewards.detach(), "groups": groups, "on_policy": on_policy.bool()}
        return self.advantage(statistics, self.defaults())

    def weights(self, logp: Tensor, rollout_logp: Tensor | None, adv: Tensor, mask: Tensor) -> Tensor:
        """One detached weight a token, f[B,T], 0 outside the mask.

        logp f[B,T]: log π_θ of the tokens; rollout_logp f[B,T], or None when on-policy (π_old = π_θ);
        adv f[B] or f[B,T]; mask b[B,T].
        """
        _check("logp", logp, 2)
        _check("mask", mask, 2, like=logp)
        inside = mask.bool()
        # Values outside the mask are padding: whatever they hold must not reach an exp or a sum.
        logp = torch.where(inside, logp.detach(), 0.0)
        if rollout_logp is None:
            rollout_logp = logp
        _check("rollout_logp", rollout_logp, 2, like=logp)
        rollout_logp = torch.where(inside, rollout_logp.detach(), 0.0)
        if adv.shape != logp.shape:
            _check("adv", adv, 1, like=logp[:, 0] if logp.shape[1] else logp.new_empty(len(logp)))
            adv = adv[:, None].expand_as(logp)
        adv = torch.where(inside, adv.detach().to(logp.dtype), 0.0)
        options = self.defaults()
        statistics = {"logp": logp, "rollout_logp": rollout_logp, "advantages": adv, "mask": inside}
        log_ratio = logp - self.reference(statistics, options)
        ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        stable = self.mask({**statistics, "ratio": ratio}, options)
        return torch.where(inside & stable, adv * ratio, 0.0)

    def normaliser(self, lengths: Tensor, denominator: float | None = None) -> Tensor:
        """What each row's token sum is multiplied with, f[B]; see `objective.normaliser`."""
        constant_length = self.defaults()["constant_length"]
        return normaliser(lengths, self.aggregation, denominator=denominator, constant_length=constant_length)

    def loss(
        self, logp: Tensor, rollout_logp: Tensor | None, adv: Tensor, mask: Tensor, denominator: float | None = None
    ) -> Tensor:
        """Scalar with d loss/d logp = −normaliser · w, exactly. Arguments: see `weights` and `normaliser`."""
        weights = self.weights(logp, rollout_logp, adv, mask)
        return surrogate(logp, weights, self.normaliser(mask.sum(dim=1).to(logp.dtype), denominator))

    def row(self) -> dict[str, Any]:
        """This algorithm's row of Table 1, as data."""
        return {
            "name": self.name,
            "reference": self.reference.symbol,
            "advantage": self.advantage.symbol,
            "mask": self.mask.symbol,
            "estimator": self.estimator,
            "source": self.source,
            "options": self.defaults(),
        }


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


def nearest(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The tail of an error message: the nearest known name, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}"


def _check(name: str, tensor: Tensor, rank: int, like: Tensor | None = None) -> None:
    if tensor.dim() != rank:
        raise ValueError(f"{name} must have rank {rank}, got shape {tuple(tensor.shape)}")
    if like is not None and tensor.shape != like.shape:
        raise ValueError(f"{name} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)}")


register(
    Algorithm(
        name="sft",
        source="Eq. 12, §A.1",
        reference=references.current,
        advantage=advantages.one,
        mask=masks.unmasked,
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
        mask=masks.unmasked,
        aggregation="token_sum",
        estimator="∇π_θ · Â/π_θ",
    )
)
register(
    Algorithm(
        name="grpo",
        source="Shao et al. 2024, arXiv:2402.03300; Eq. 16–18",
        reference=references.rollout,
        advantage=advantages.group_zscore,
        mask=masks.ppo_clip,
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
        mask=masks.ppo_clip,
        aggregation="constant",
        estimator="∇π_θ · Â·1_clip/π_old",
    )
)
