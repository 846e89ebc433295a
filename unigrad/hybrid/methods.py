"""A method is data: which trajectories each question trains on, under which algorithms, when and how strongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unigrad.hybrid.schedules import Assignment, Schedule, averaged, constant, cosine_mu, own, shuffled
from unigrad.hybrid.terms import Term
from unigrad.plugins import add, find

GRPO = Term("grpo", "rollouts")
SFT = Term("sft", "demonstrations")
TOKEN_SFT = SFT.with_options(aggregation="token_mean")
RL = Term("grpo", "rollouts", options={"aggregation": "token_sum"})
"""Eq. 11."""
GROUP_RL = replace(RL, peers="both")
OFF_POLICY_RL = Term("luffy", "demonstrations", peers="both")
"""§5.4 takes its off-policy RL from LUFFY."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the questions train on for a share of the run.

    gate: from a question's solved rollouts to (α, β), a name of `gates.GATES`. across: what becomes of the gate's
    decisions over the questions of a step. schedule: what α and β are multiplied with as the run goes on. terms: RL on
    rollouts, then those that β weighs. samples: whether the gate or the first term needs rollouts at all; a stage that
    never looks at one spares them. share: of the run's steps.
    """

    gate: str
    gate_options: Mapping[str, Any] = field(default_factory=dict)
    across: Assignment = own
    schedule: Callable[..., Schedule] = constant
    terms: tuple[Term, ...] = (GRPO, SFT)
    samples: bool = True
    share: float = 1.0

    @property
    def shows(self) -> bool:
        """Whether it ever trains on a demonstration."""
        return self.gate not in ("rollouts", "drop")


@dataclass(frozen=True)
class Method:
    """One stage, or several in turn; each begins with a fresh optimizer, as a run of its own would.

    sets: the comparisons that it belongs to, for `unigrad compare --methods`. paradigm: its row in Table 5.
    """

    name: str
    description: str
    stages: tuple[Stage, ...]
    sets: tuple[str, ...] = ()
    paradigm: str | None = None

    @property
    def follows_progress(self) -> bool:
        """Whether what trains at a step depends on how long the run is to be."""
        return len(self.stages) > 1 or any(stage.schedule is not constant for stage in self.stages)

    @property
    def threshold(self) -> float | None:
        """γ of a method that is HPT but for it (Table 6); None for others."""
        (hpt,), stage = METHODS["hpt"].stages, self.stages[0]
        same = replace(hpt, gate_options=stage.gate_options) == stage
        return float(stage.gate_options["threshold"]) if same and len(self.stages) == 1 else None

    def rows(self) -> list[dict[str, Any]]:
        """The declaration as data, one row a stage."""
        return [
            {
                "name": self.name,
                "description": self.description,
                "share": stage.share,
                "gate": stage.gate,
                "gate_options": dict(stage.gate_options),
                "across": stage.across.__name__,
                "schedule": stage.schedule.__name__,
                "on_policy": first.name if stage.samples else None,
                "on_policy_options": dict(first.options) if stage.samples else {},
                "on_policy_peers": first.compared if stage.samples else None,
                "offline": {term.name: term.coefficient for term in offline} if stage.shows else {},
            }
            for stage in self.stages
            for first, *offline in [stage.terms]
        ]


MAIN = ("main",)
"""Of Tables 2 and 3."""
SFT_ALONE = Stage(gate="demonstrations", samples=False)
GRPO_ALONE = Stage(gate="rollouts")


def _switch(threshold: int, *, terms: tuple[Term, ...] = (RL, SFT), **changes: Any) -> Stage:
    return Stage(gate="switch", gate_options={"threshold": threshold}, terms=terms, **changes)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        # Tables 2 and 3
        Method(
            "hpt",
            "Hybrid Post-Training (§3.4): RL where more than γ = 0 rollouts are solved, else SFT; SuperRL "
            "(arXiv:2506.01096) has the same switch",
            (_switch(0),),
            (*MAIN, "table5", "table6", "controls"),
            "SFT/ON (hpt)",
        ),
        Method("sft", "Supervised fine-tuning on the demonstrations; nothing is sampled", (SFT_ALONE,), MAIN),
        Method("grpo", "Group-relative policy optimization on the rollouts alone", (GRPO_ALONE,), MAIN),
        Method(
            "sft_then_grpo",
            "SFT for the first part of the run, then GRPO: two stages, each with a fresh optimizer",
            (
                replace(SFT_ALONE, share=0.5),
                replace(GRPO_ALONE, share=0.5),
            ),
            MAIN,
        ),
        Method(
            "luffy",
            "LUFFY: each group holds its demonstration; advantages over on ∪ off, shaped offline weights",
            (Stage(gate="both", terms=(replace(GRPO, peers="both"), OFF_POLICY_RL)),),
            MAIN,
        ),
        Method(
            "srft",
            "SRFT (§A.3): SFT weighted 0.5·e^−H, offline RL with π_ref = 1, solved rollouts weighted 0.1·e^H",
            (
                Stage(
                    gate="both",
                    terms=(
                        Term("srft_rollouts", "rollouts", peers="both"),
                        Term("srft", "demonstrations", peers="both"),
                        Term("srft_sft", "demonstrations"),
                    ),
                ),
            ),
            MAIN,
        ),
        # Table 5
        Method(
            "off_on",
            "OFF/ON (§5.4): HPT with LUFFY's off-policy RL in place of SFT",
            (_switch(0, terms=(GROUP_RL, OFF_POLICY_RL)),),
            ("table5",),
            "OFF/ON",
        ),
        Method(
            "mix_on",
            "MIX/ON (§5.4): HPT with 0.1·SFT + 1.0·off-policy RL in place of SFT",
            (_switch(0, terms=(GROUP_RL, OFF_POLICY_RL, replace(SFT, coefficient=0.1))),),
            ("table5",),
            "Mix/ON",
        ),
        # Table 6
        Method(
            "hpt_gate1", "HPT with γ = 1: SFT where at most one rollout is solved (§5.5)", (_switch(1),), ("table6",)
        ),
        Method(
            "hpt_gate2", "HPT with γ = 2: SFT where at most two rollouts are solved (§5.5)", (_switch(2),), ("table6",)
        ),
        # Other feedback functions f, g
        Method(
            "always_both",
            "every question trains on both, with constant α and β (method.alpha, method.beta)",
            (Stage(gate="both", terms=(RL, SFT)),),
        ),
        Method("soft", "soft feedback: α = P, β = 1 − P", (Stage(gate="linear", terms=(RL, SFT)),)),
        Method(
            "soft_table",
            "soft feedback by the authors' table, from solved count to (α, β)",
            (Stage(gate="table", terms=(RL, SFT)),),
        ),
        Method(
            "soft_mix",
            "the authors' table with a third column: off-policy RL on the demonstration beside SFT",
            (
                Stage(
                    gate="table",
                    gate_options={
                        "table": (
                            (0.0, 0.0, 1.0),
                            (0.125, 0.5, 0.5),
                            (0.25, 1.0, 0.25),
                            (0.5, 0.5, 0.125),
                            (1.0, 0.25, 0.0),
                            (1.0, 0.125, 0.0),
                            (1.0, 0.0, 0.0),
                        )
                    },
                    terms=(GROUP_RL, OFF_POLICY_RL, SFT),
                ),
            ),
        ),
        Method(
            "soft_off",
            "the authors' table with off-policy RL on every demonstration, SFT where few rollouts are solved",
            (
                Stage(
                    gate="table",
                    gate_options={
                        "table": (
                            (0.0, 1.0, 1.0),
                            (0.125, 1.0, 0.5),
                            (0.25, 1.0, 0.25),
                            (0.5, 1.0, 0.125),
                            (1.0, 1.0, 0.0),
                        )
                    },
                    terms=(GROUP_RL, OFF_POLICY_RL, SFT),
                ),
            ),
        ),
        Method(
            "chord_mu",
            "CHORD-μ: (1 − μ)·GRPO + μ·SFT; μ falls along a cosine as the run goes on",
            (Stage(gate="both", schedule=cosine_mu, terms=(GRPO, TOKEN_SFT)),),
        ),
        Method(
            "chord_phi",
            "CHORD-φ: 0.9·GRPO + 0.1·SFT with token weights φ = p(1 − p), throughout",
            (
                Stage(
                    gate="table",
                    gate_options={"table": ((0.9, 0.1),)},
                    terms=(GRPO, Term("chord_phi", "demonstrations")),
                ),
            ),
        ),
        Method(
            "ppo",
            "Proximal policy optimization on the rollouts, with a value head and GAE",
            (Stage(gate="rollouts", terms=(Term("ppo", "rollouts"), SFT)),),
        ),
        # Controls: what HPT's gain is not
        Method(
            "random_gate",
            "control: HPT's decisions of the step, dealt to its questions at random",
            (_switch(0, across=shuffled),),
            ("controls",),
        ),
        Method(
            "constant_mix",
            "control: every question gets the step's mean of HPT's decisions",
            (_switch(0, across=averaged),),
            ("controls",),
        ),
        Method(
            "drop_failed",
            "control: questions that HPT would give to SFT are dropped and not replaced",
            (Stage(gate="drop", gate_options={"threshold": 0}, terms=(RL, SFT)),),
            ("controls",),
        ),
    )
}


def register_method(method: Method) -> Method:
    """Add a method. Raises ValueError where its name is taken."""
    return add(METHODS, method.name, method, "a method")


def method(name: str) -> Method:
    """The method of this name. Raises ValueError on an unknown one, naming the nearest."""
    return find(METHODS, name, "method")
