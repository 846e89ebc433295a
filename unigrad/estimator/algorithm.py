"""An algorithm is one choice of each part of Eq. 6 plus an aggregation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unigrad.errors import did_you_mean
from unigrad.estimator import statistics
from unigrad.estimator.objective import entropy_bonus, normaliser, surrogate
from unigrad.estimator.part import Part
from unigrad.estimator.references import ratio_of
from unigrad.options import AGGREGATIONS, Aggregation, Option, all_options, joined

OF_ALL = ("constant_length", "entropy_coefficient")
"""Options of no part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Algorithm:
    """A row of Table 1: w_t = 1_stable · Â · π_θ/π_ref, and how the token sums become a loss.

    masks: all must hold. correction: log of a factor on the ratio that the masks do not see. shaping: what Â becomes
    once π_θ is known. penalties: what is added to the weight. Only parts whose switch is on take part. options: the
    defaults that are not those of `unigrad.options`. Raises ValueError, a line, on an option or a statistic that there
    is not, naming the nearest, and on a value that does not fit.

    Shapes: B rows, T tokens; `mask` is true on the completion's tokens, aligned with the log-probs' targets.
    """

    name: str
    source: str
    reference: Part
    advantage: Part
    aggregation: Aggregation
    masks: tuple[Part, ...] = ()
    correction: Part | None = None
    shaping: Part | None = None
    penalties: tuple[Part, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            near = did_you_mean(str(self.aggregation), AGGREGATIONS)
            raise ValueError(f"unknown aggregation {self.aggregation!r}{near}")
        known = self.declarations
        for name, value in self.options.items():
            if name not in known:
                near = did_you_mean(name, ["aggregation", *known])
                raise ValueError(f"algorithm {self.name!r} has no option {name!r}{near}")
            known[name].check(value)
        for each in self._parts:
            there = statistics.AT_ADVANTAGES if each is self.advantage else statistics.AT_WEIGHTS
            for name in set(each.statistics) - set(there):
                near = did_you_mean(name, there)
                raise ValueError(f"{each.name} reads {name!r}, which is no statistic there{near}")

    def with_options(self, **options: Any) -> Algorithm:
        """The same algorithm with other options. Raises ValueError on an unknown one, naming the nearest."""
        aggregation = options.pop("aggregation", self.aggregation)
        return dataclasses.replace(self, aggregation=aggregation, options={**self.options, **options})

    @cached_property
    def declarations(self) -> dict[str, Option]:
        """Its options by name, but for the aggregation, which is each algorithm's own."""
        of_all = {option.name: option for option in all_options() if option.name in OF_ALL}
        return joined(of_all, (option for each in self._parts for option in each.options.values()))

    def defaults(self) -> dict[str, Any]:
        """Every option with its value: the aggregation, the declared defaults, and what `options` changed."""
        own = {name: option.default for name, option in self.declarations.items()}
        return {"aggregation": self.aggregation, **own, **self.options}

    def kept_unread(self, option: str) -> str | None:
        """The option whose value keeps this one of its options from being read; None where it is read."""
        options = self.defaults()
        if option == "constant_length" and self.aggregation != "constant":
            return "aggregation"
        keeping = [each.kept_unread(option, options) for each in self._parts if option in each.options]
        return keeping[0] if keeping and all(keeping) else None

    @property
    def _parts(self) -> tuple[Part, ...]:
        some = (self.correction, self.shaping)
        return (self.reference, self.advantage, *self.masks, *filter(None, some), *self.penalties)

    def _active(self, parts: Iterable[Part | None]) -> list[Part]:
        options = self.defaults()
        return [each for each in parts if each is not None and each.is_active(options)]

    @property
    def _at_weights(self) -> list[Part]:
        """The active parts that make the weight once the advantages are there."""
        return self._active((self.reference, *self.masks, self.correction, self.shaping, *self.penalties))

    @property
    def reads_rewards(self) -> bool:
        """Whether its advantages follow from how large rewards are: not alone from which rows are solved, or none."""
        return not {"rewards", "token_rewards"}.isdisjoint(self.advantage.statistics)

    @property
    def is_relative(self) -> bool:
        """Whether a trajectory trains by comparison within its group, so that a group of one never trains."""
        return any("groups" in each.statistics for each in self._active((self.advantage, self.shaping)))

    @property
    def needs(self) -> frozenset[str]:
        """The optional statistics that it cannot do without: "values" by `advantages`, the others by `weights`."""
        read = {name for each in self._at_weights for name, required in each.statistics.items() if required}
        read |= {"values"} & set(self.advantage.statistics)
        if self.entropy_coefficient:
            read.add("entropy")
        return frozenset(read & set(statistics.OPTIONAL) - {"mask"})

    @property
    def compares_with_old(self) -> bool:
        """Whether its weights depend on π_old."""
        return any("rollout_logp" in each.statistics for each in self._at_weights)

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
        self, rewards: Tensor, groups: Tensor, on_policy: Tensor | None = None, *,
        values: Tensor | None = None, mask: Tensor | None = None, solved: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Â of the WHOLE batch, f[B], or f[B,T] where it differs by token (GAE).

        rewards f[B], or f[B,T] by token with the mask (`kl_in_reward`); groups i[B], one number a question; on_policy
        b[B] (None: all); values f[B,T] and mask b[B,T] where needed; solved b[B] (None: those of full reward). Raises
        ValueError on shapes that do not fit and on a missing statistic.
        """
        given = statistics.at_advantages(rewards, groups, on_policy, values, mask, solved)
        statistics.require(self.name, [self.advantage], given)
        return self.advantage(given, self.defaults())

    def returns(self, rewards: Tensor, groups: Tensor, *, values: Tensor, mask: Tensor) -> Tensor:
        """What the value head is to predict, f[B,T]: GAE before any whitening, plus the values (λ-returns)."""
        plain = self.with_options(whiten=False).advantages(rewards, groups, values=values, mask=mask)
        return torch.where(mask.bool(), plain + values.detach(), 0.0)

    def weights(
        self, logp: Tensor, rollout_logp: Tensor | None, adv: Tensor, mask: Tensor, *,
        entropy: Tensor | None = None, reference_logp: Tensor | None = None, engine_logp: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """One detached weight a token, f[B,T], 0 outside the mask.

        logp f[B,T]: log π_θ of the tokens; rollout_logp f[B,T]: log π_old, or None when on-policy (π_old = π_θ);
        adv f[B] or f[B,T]; mask b[B,T]. Only where `needs` names them: entropy f[B,T] of π_θ; reference_logp f[B,T]
        of a frozen reference model; engine_logp f[B,T], what the engine said where rollout_logp is the trainer's own;
        groups i[B]. Raises ValueError on shapes that do not fit and on a missing statistic.
        """
        tokens = {"entropy": entropy, "reference_logp": reference_logp, "engine_logp": engine_logp}
        given = statistics.at_weights(logp, rollout_logp, adv, mask, groups, tokens)
        statistics.require(self.name, self._at_weights, given)
        if not logp.numel():
            return torch.zeros_like(logp)
        options, inside = self.defaults(), given["mask"]
        for each in self._active([self.shaping]):
            given["advantages"] = torch.where(inside, each(given, options), 0.0)
        log_ratio = self.reference(given, options)
        given |= {"ratio": ratio_of(log_ratio), "stable": inside}
        for each in self._active(self.masks):
            given["stable"] = given["stable"] & each(given, options)
        for each in self._active([self.correction]):
            log_ratio = log_ratio + each(given, options)
        weights = torch.where(given["stable"], given["advantages"] * ratio_of(log_ratio), 0.0)
        for each in self._active(self.penalties):
            weights = weights + torch.where(inside, each(given, options), 0.0)
        return weights

    def normaliser(self, lengths: Tensor, denominator: float | None = None) -> Tensor:
        """What each row's token sum is multiplied with, f[B]; see `objective.normaliser`."""
        constant_length = self.defaults()["constant_length"]
        return normaliser(lengths, self.aggregation, denominator=denominator, constant_length=constant_length)

    def loss(
        self, logp: Tensor, rollout_logp: Tensor | None, adv: Tensor, mask: Tensor, denominator: float | None = None, *,
        entropy: Tensor | None = None, **optional: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Scalar with d loss/d logp = −normaliser · w, exactly, less the entropy bonus with its own gradient.

        Arguments: as of `weights` and `normaliser`.
        """
        weights = self.weights(logp, rollout_logp, adv, mask, entropy=entropy, **optional)
        coefficients = self.normaliser(mask.sum(dim=1).to(logp.dtype), denominator)
        loss = surrogate(logp, weights, coefficients)
        if not self.entropy_coefficient:
            return loss
        if entropy is None:
            meaning = statistics.OPTIONAL["entropy"]
            raise ValueError(f"algorithm {self.name!r} needs entropy ({meaning}) for its entropy_coefficient")
        return loss - self.entropy_coefficient * entropy_bonus(entropy, mask.bool(), coefficients)

    def row(self) -> dict[str, Any]:
        """This algorithm's row of Table 1, as data; `optional`: the parts that are off, by the option that says so."""
        options = self.defaults()
        advantage = "".join(each.symbol for each in self._active([self.shaping])) or "{}"
        off = [each for each in self._parts if not each.is_active(options)]
        return {
            "name": self.name,
            "reference": " / ".join(
                [self.reference.symbol, *(each.shown(options) for each in self._active([self.correction]))]
            ),
            "advantage": advantage.replace("{}", self.advantage.shown(options)),
            "mask": " · ".join(each.symbol for each in self._active(self.masks)) or "–",
            "estimator": self._formula(),
            "optional": {each.switch: each.symbol.replace("{}", "Â").strip() for each in off},
            "source": self.source,
            "options": options,
        }

    def _formula(self) -> str:
        """Eq. 6 with the active parts in it; what is no single symbol stands as Â or π_ref, spelled out beside it."""
        reference, adv = self.reference.symbol, "Â"
        if self._active([self.correction]) or not (reference == "1" or reference.isidentifier()):
            reference = "π_ref"
        if self.advantage.symbol == "1" and not self._active([self.shaping]):
            adv = "1"
        stable = "".join(f"·1_{each.symbol}" for each in self._active(self.masks))
        added = "".join(each.symbol for each in self._active(self.penalties))
        return f"∇π_θ · {adv}{stable}" + (f"/{reference}" if reference != "1" else "") + added
