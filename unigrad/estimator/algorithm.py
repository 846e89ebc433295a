"""An algorithm is one choice of each part of Eq. 6 plus an aggregation."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unigrad.estimator.advantages import at_last_token
from unigrad.estimator.objective import AGGREGATIONS, Aggregation, entropy_bonus, normaliser, surrogate
from unigrad.estimator.part import Part, describe, fits
from unigrad.estimator.references import ratio_of, truncated
from unigrad.estimator.terms import kl_penalty, trust_region

OPTIONAL = {
    "entropy": "the policy's entropy at each token, f[B,T]",
    "reference_logp": "log-probs of a frozen reference model, f[B,T]",
    "engine_logp": "log-probs that the rollout engine gave, f[B,T]",
    "groups": "question numbers, i[B]",
    "values": "the value head's estimates, f[B,T]",
    "mask": "the completions' tokens, b[B,T]",
}
"""What only some algorithms read; `Algorithm.needs` says which."""
AT_WEIGHTS = (
    "logp",
    "rollout_logp",
    "advantages",
    "mask",
    "ratio",
    "stable",
    "entropy",
    "reference_logp",
    "engine_logp",
)
AT_ADVANTAGES = ("rewards", "token_rewards", "on_policy", "values", "mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Algorithm:
    """A row of Table 1: w_t = 1_stable · Â · π_θ/π_ref, and how the token sums become a loss.

    masks: all must hold. correction: log of a factor on the ratio that the masks do not see. shaping: what Â becomes
    once π_θ is known. penalties: what is added to the weight. Of all these, only the parts whose switch is on take
    part.

    Shapes: B rows, T tokens; `mask` is true on the completion's tokens, aligned with the log-probs' targets.
    """

    name: str
    source: str
    reference: Part
    advantage: Part
    aggregation: Aggregation
    estimator: str
    masks: tuple[Part, ...] = ()
    correction: Part | None = truncated
    shaping: Part = trust_region
    penalties: tuple[Part, ...] = (kl_penalty,)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {name: kind for each in self._parts for name, kind in each.option_types.items()}
        kinds |= {"constant_length": float, "entropy_coefficient": float}
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"unknown aggregation {self.aggregation!r}{nearest(str(self.aggregation), AGGREGATIONS)}")
        known = ["aggregation", *kinds]
        for name, value in self.options.items():
            if name not in kinds:
                raise ValueError(f"algorithm {self.name!r} has no option {name!r}{nearest(name, known)}")
            if not fits(value, kinds[name]):
                raise ValueError(f"option {name} must be {describe(kinds[name])}, not {value!r}")
        for each in self._parts:
            there = ("groups", *(AT_ADVANTAGES if each is self.advantage else AT_WEIGHTS))
            for name in each.statistics:
                if name not in there:
                    raise ValueError(f"{each.name} reads {name!r}, which is no statistic there{nearest(name, there)}")
        if self.options.get("constant_length", 1) < 1:
            raise ValueError(f"constant_length must be at least 1, not {self.options['constant_length']}")

    def with_options(self, **options: Any) -> Algorithm:
        """The same algorithm with other options. Raises ValueError on an unknown one, naming the nearest."""
        aggregation = options.pop("aggregation", self.aggregation)
        return dataclasses.replace(self, aggregation=aggregation, options={**self.options, **options})

    def defaults(self) -> dict[str, Any]:
        """Every option with its value: the parts' own, the aggregation, and what `options` changed."""
        own: dict[str, Any] = {"aggregation": self.aggregation, "constant_length": 1024, "entropy_coefficient": 0.0}
        for each in self._parts:
            own.update(each.options)
        return {**own, **self.options}

    @property
    def _parts(self) -> tuple[Part, ...]:
        correction = () if self.correction is None else (self.correction,)
        return (self.reference, self.advantage, *self.masks, *correction, self.shaping, *self.penalties)

    def _active(self, parts: Iterable[Part | None]) -> list[Part]:
        options = self.defaults()
        return [each for each in parts if each is not None and each.is_active(options)]

    @property
    def _at_weights(self) -> list[Part]:
        """The active parts that make the weight once the advantages are there."""
        return self._active((self.reference, *self.masks, self.correction, self.shaping, *self.penalties))

    @property
    def is_relative(self) -> bool:
        """Whether a trajectory trains by comparison within its group, so that a group of one never trains."""
        return any("groups" in each.statistics for each in self._active((self.advantage, self.shaping)))

    @property
    def spans_demonstrations(self) -> bool:
        """Whether a group's statistics are over its rollouts and demonstrations together (SRFT, LUFFY)."""
        return "groups" in self.advantage.statistics and "on_policy" not in self.advantage.statistics

    @property
    def needs(self) -> frozenset[str]:
        """The optional statistics that it cannot do without: "values" by `advantages`, the others by `weights`."""
        read = {name for each in self._at_weights for name, required in each.statistics.items() if required}
        read |= {"values"} & set(self.advantage.statistics)
        if self.entropy_coefficient:
            read.add("entropy")
        return frozenset(read & set(OPTIONAL) - {"mask"})

    @property
    def whole_batch(self) -> bool:
        """Whether the weights compare tokens or rows across the batch: compute them before the batch is split."""
        return any(each.whole_batch for each in self._at_weights)

    @property
    def skips_zero_advantages(self) -> bool:
        """Whether a row of advantage 0 has weight 0 and changes no other's, so that it can be left out unseen."""
        extras = self._active((self.shaping, *self.penalties))
        return not (extras or self.whole_batch or self.entropy_coefficient)

    @property
    def entropy_coefficient(self) -> float:
        """What the entropy bonus is multiplied with; see `objective.entropy_bonus`."""
        return float(self.defaults()["entropy_coefficient"])

    def advantages(
        self,
        rewards: Tensor,
        groups: Tensor,
        on_policy: Tensor | None = None,
        *,
        values: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Â of the WHOLE batch, f[B], or f[B,T] where it differs by token (GAE).

        rewards f[B], or f[B,T] by token with the mask (see `advantages.kl_in_reward`); groups i[B] (equal numbers: one
        question); on_policy b[B] (None: all); values f[B,T] and mask b[B,T] where the algorithm needs them. Raises
        ValueError on shapes that do not fit and on a missing statistic.
        """
        _check("groups", groups, 1)
        if not rewards.is_floating_point():
            raise ValueError(f"rewards must be floating point, got {rewards.dtype}")
        rewards = rewards.detach()
        token_rewards = None
        if mask is not None:
            _check("mask", mask, 2)
            _check("mask's rows", mask[:, 0] if mask.shape[1] else groups, 1, like=groups)
            mask = mask.bool()
        if rewards.dim() == 2:
            if mask is None:
                raise ValueError("rewards by token need the mask")
            _check("rewards", rewards, 2, like=mask)
            token_rewards = torch.where(mask, rewards, 0.0)
            rewards = token_rewards.sum(dim=1)
        _check("rewards", rewards, 1, like=groups)
        if token_rewards is None and mask is not None:
            token_rewards = at_last_token(rewards, mask)
        if on_policy is None:
            on_policy = torch.ones_like(rewards, dtype=torch.bool)
        _check("on_policy", on_policy, 1, like=rewards)
        if values is not None and mask is not None:
            _check("values", values, 2, like=mask)
            values = torch.where(mask, values.detach().to(rewards.dtype), 0.0)
        statistics = {
            "rewards": rewards,
            "token_rewards": token_rewards,
            "groups": groups,
            "on_policy": on_policy.bool(),
            "values": values,
            "mask": mask,
        }
        self._require([self.advantage], statistics)
        return self.advantage(statistics, self.defaults())

    def returns(self, rewards: Tensor, groups: Tensor, *, values: Tensor, mask: Tensor) -> Tensor:
        """What the value head is to predict, f[B,T]: GAE before any whitening, plus the values (λ-returns)."""
        plain = self.with_options(whiten=False).advantages(rewards, groups, values=values, mask=mask)
        return torch.where(mask.bool(), plain + values.detach(), 0.0)

    def weights(
        self,
        logp: Tensor,
        rollout_logp: Tensor | None,
        adv: Tensor,
        mask: Tensor,
        *,
        entropy: Tensor | None = None,
        reference_logp: Tensor | None = None,
        engine_logp: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:
        """One detached weight a token, f[B,T], 0 outside the mask.

        logp f[B,T]: log π_θ of the tokens; rollout_logp f[B,T]: log π_old, or None when on-policy (π_old = π_θ);
        adv f[B] or f[B,T]; mask b[B,T]. Only where `needs` names them: entropy f[B,T] of π_θ; reference_logp f[B,T]
        of a frozen reference model; engine_logp f[B,T], what the engine said where rollout_logp is the trainer's own;
        groups i[B]. Raises ValueError on shapes that do not fit and on a missing statistic.
        """
        _check("logp", logp, 2)
        _check("mask", mask, 2, like=logp)
        inside = mask.bool()

        def tokens(name: str, values: Tensor) -> Tensor:
            _check(name, values, 2, like=logp)
            # Values outside the mask are padding: whatever they hold must not reach an exp or a sum.
            return torch.where(inside, values.detach().to(logp.dtype), 0.0)

        rows = logp[:, 0] if logp.shape[1] else logp.new_empty(len(logp))
        if adv.dim() != 2:
            _check("adv", adv, 1, like=rows)
            adv = adv[:, None].expand_as(logp)
        if groups is not None:
            _check("groups", groups, 1, like=rows)
        optional = {"entropy": entropy, "reference_logp": reference_logp, "engine_logp": engine_logp}
        statistics = {
            "logp": tokens("logp", logp),
            "rollout_logp": tokens("rollout_logp", logp if rollout_logp is None else rollout_logp),
            "mask": inside,
            "groups": groups,
            **{name: None if given is None else tokens(name, given) for name, given in optional.items()},
        }
        self._require(self._at_weights, statistics)
        if not logp.numel():
            return torch.zeros_like(logp)
        return self._weigh(statistics, tokens("adv", adv), inside)

    def _weigh(self, statistics: dict[str, Tensor | None], adv: Tensor, inside: Tensor) -> Tensor:
        options = self.defaults()
        statistics["advantages"] = adv
        for each in self._active([self.shaping]):
            adv = torch.where(inside, each(statistics, options), 0.0)
            statistics["advantages"] = adv
        log_ratio = self.reference(statistics, options)
        statistics["ratio"] = ratio_of(log_ratio)
        stable = inside
        for each in self._active(self.masks):
            stable = stable & each({**statistics, "stable": stable}, options)
        for each in self._active([self.correction]):
            log_ratio = log_ratio + each(statistics, options)
        weights = torch.where(stable, adv * ratio_of(log_ratio), 0.0)
        for each in self._active(self.penalties):
            weights = weights + torch.where(inside, each(statistics, options), 0.0)
        return weights

    def _require(self, parts: Iterable[Part], statistics: Mapping[str, Tensor | None]) -> None:
        for each in parts:
            for name, required in each.statistics.items():
                if required and name in statistics and statistics[name] is None:
                    name = "mask" if name == "token_rewards" else name
                    raise ValueError(f"algorithm {self.name!r} needs {name} ({OPTIONAL[name]}) for its {each.name}")

    def normaliser(self, lengths: Tensor, denominator: float | None = None) -> Tensor:
        """What each row's token sum is multiplied with, f[B]; see `objective.normaliser`."""
        constant_length = self.defaults()["constant_length"]
        return normaliser(lengths, self.aggregation, denominator=denominator, constant_length=constant_length)

    def loss(
        self,
        logp: Tensor,
        rollout_logp: Tensor | None,
        adv: Tensor,
        mask: Tensor,
        denominator: float | None = None,
        *,
        entropy: Tensor | None = None,
        reference_logp: Tensor | None = None,
        engine_logp: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:
        """Scalar with d loss/d logp = −normaliser · w, exactly. Arguments: see `weights` and `normaliser`.

        Where `entropy_coefficient` is not 0, it also holds − coefficient · normaliser · the entropy's sum, with its
        gradient.
        """
        weights = self.weights(
            logp,
            rollout_logp,
            adv,
            mask,
            entropy=entropy,
            reference_logp=reference_logp,
            engine_logp=engine_logp,
            groups=groups,
        )
        coefficients = self.normaliser(mask.sum(dim=1).to(logp.dtype), denominator)
        loss = surrogate(logp, weights, coefficients)
        if not self.entropy_coefficient:
            return loss
        if entropy is None:
            raise ValueError(
                f"algorithm {self.name!r} needs entropy ({OPTIONAL['entropy']}) for its entropy_coefficient"
            )
        return loss - self.entropy_coefficient * entropy_bonus(entropy, mask.bool(), coefficients)

    def row(self) -> dict[str, Any]:
        """This algorithm's row of Table 1, as data."""
        correction = "".join(f" / {each.symbol}" for each in self._active([self.correction]))
        shaping = "".join(each.symbol.format(self.advantage.symbol) for each in self._active([self.shaping]))
        return {
            "name": self.name,
            "reference": self.reference.symbol + correction,
            "advantage": shaping or self.advantage.symbol,
            "mask": " · ".join(each.symbol for each in self._active(self.masks)) or "–",
            "estimator": self.estimator + "".join(each.symbol for each in self._active(self.penalties)),
            "source": self.source,
            "options": self.defaults(),
        }


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known name, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}"


def _check(name: str, tensor: Tensor, rank: int, like: Tensor | None = None) -> None:
    if tensor.dim() != rank:
        raise ValueError(f"{name} must have rank {rank}, got shape {tuple(tensor.shape)}")
    if like is not None and tensor.shape != like.shape:
        raise ValueError(f"{name} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)}")
