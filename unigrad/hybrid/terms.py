"""The terms of a mixed loss (Eq. 11–13): which trajectories of a question train, compared with whom, how strongly.

Declarations alone: nothing here imports torch before an algorithm is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unigrad.estimator import Algorithm

Members = Literal["rollouts", "demonstrations", "both"]


@dataclass(frozen=True)
class Term:
    """An algorithm on some of each question's trajectories.

    name: of the algorithm, a row of `unigrad algorithms`; options: its own. members: those that train. peers: those
    that their advantage is relative to, and that the denominator counts; None: the members. A demonstration that is one
    more member of its group (LUFFY, SRFT) has the peers `both`. coefficient: multiplies the gate's weight.
    selected_mean: the denominator counts only the questions that the term trains on (the authors' SFT) instead of all
    (Eq. 12). lone: a demonstration that trains where its rollouts do not has its reward as its advantage, as a group of
    one has in verl, instead of being compared with them.
    """

    name: str
    members: Members
    peers: Members | None = None
    coefficient: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    selected_mean: bool = False
    lone: bool = False

    @cached_property
    def algorithm(self) -> Algorithm:
        """Raises ValueError on an unknown name or option, naming the nearest."""
        from unigrad.estimator import algorithm

        return algorithm(self.name, **self.options)

    def with_options(self, **options: Any) -> Term:
        return replace(self, options={**self.options, **options})

    @property
    def compared(self) -> Members:
        return self.peers or self.members

    def __str__(self) -> str:
        trained = "rollouts and demonstrations" if self.members == "both" else self.members
        among = " in one group with demonstrations" if self.members == "rollouts" and self.compared == "both" else ""
        factor = "" if self.coefficient == 1 else f"{self.coefficient:g}·"
        return f"{factor}{self.name} on {trained}{among}"


def averaged_alike(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms whose peers are rollouts and demonstrations share a group: all are averaged as the first of them is."""
    first = next((term.algorithm for term in terms if term.compared == "both"), None)
    if first is None:
        return tuple(terms)
    shared = {"aggregation": first.aggregation, "constant_length": first.defaults()["constant_length"]}
    return tuple(term.with_options(**shared) if term.compared == "both" else term for term in terms)
