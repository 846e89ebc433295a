"""What each question of a step trains on (Eq. 9): the gate's vector, one weight a term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from unigrad.hybrid.gates import Gate
from unigrad.hybrid.schedules import Assignment, Schedule, constant, own
from unigrad.hybrid.terms import Term
from unigrad.types import Group

_ANY = 64
"""Rollouts of a question, enough for every weight that a gate may give to show."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A stage of a method, ready to use: its gate, and its terms.

    terms: RL on rollouts first; the gate gives α for it, and one β for all others or one each. alpha, beta: multiply
    the first term and all others. kl_reward_coefficient: of the KL to the reference, in the rollouts' rewards. until:
    the share of the run after which the next stage begins. Raises ValueError if the gate and the terms do not fit.
    """

    gate: Gate
    across: Assignment = own
    schedule: Schedule = field(default_factory=constant)
    terms: tuple[Term, ...]
    alpha: float = 1.0
    beta: float = 1.0
    kl_reward_coefficient: float = 0.0
    samples: bool = True
    until: float = 1.0

    def __post_init__(self) -> None:
        betas = len(self.gate(solved=0, n=1)) - 1
        if betas not in (1, len(self.terms) - 1):
            raise ValueError(f"the gate weighs {betas} offline terms, and the method has {len(self.terms) - 1}")

    @property
    def needs(self) -> frozenset[str]:
        """The optional statistics that its algorithms cannot do without (`Algorithm.needs`)."""
        terms = self.terms if self.samples else self.terms[1:]
        needs = frozenset[str]().union(*(term.algorithm.needs for term in terms))
        return needs | {"reference_logp"} if self.kl_reward_coefficient else needs

    def weights(self, solved: int, n: int) -> tuple[float, ...]:
        """What the gate says of a question, one number for each term."""
        alpha, *betas = self.gate(solved=solved, n=n)
        return (alpha, *(betas * (len(self.terms) - 1) if len(betas) == 1 else betas))

    @property
    def reads_rewards(self) -> bool:
        """Whether any term that may train depends on how large the rollouts' rewards are."""
        trained = self.training(_ANY)
        return self.samples and any(
            term.algorithm.reads_rewards and term.compared != "demonstrations" for term in trained
        )

    def training(self, n: int) -> tuple[Term, ...]:
        """The terms that the gate gives a weight for some number of solved rollouts of `n`."""
        columns = zip(*(self.weights(solved, n) for solved in range(n + 1)), strict=True)
        return tuple(term for term, column in zip(self.terms, columns, strict=True) if any(column))


@dataclass(frozen=True, slots=True)
class Decision:
    """α of one question, β of each further term, and whether a demonstration was wanted and not there."""

    alpha: float
    betas: tuple[float, ...]
    fell_back: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """One for each term."""
        return (self.alpha, *self.betas)

    @property
    def beta(self) -> float:
        """Of all terms but the first together."""
        return sum(self.betas)

    @property
    def is_dropped(self) -> bool:
        return not any(self.weights)


def decide(groups: Sequence[Group], objective: Objective, *, progress: float = 0.0, seed: int = 0) -> list[Decision]:
    """(α, β) of each question of a step. One that wants a demonstration and has none falls back to RL."""
    decided = [objective.weights(group.solved, len(group.rollouts)) for group in groups]
    on, off = objective.schedule(progress)
    first, *offline = objective.terms
    decisions = []
    for group, (alpha, *betas) in zip(groups, objective.across(decided, seed), strict=True):
        scale = off * objective.beta
        weighted = tuple(beta * scale * term.coefficient for beta, term in zip(betas, offline, strict=True))
        if any(weighted) and group.demonstration is None:
            decisions.append(Decision(objective.alpha * first.coefficient, (0.0,) * len(weighted), True))
        else:
            decisions.append(Decision(alpha * on * objective.alpha * first.coefficient, weighted))
    return decisions
