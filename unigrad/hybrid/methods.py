"""A method is data: which gate decides, and which algorithm trains on rollouts and which on demonstrations."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a question trains on.

    samples: whether the gate or the RL term needs rollouts at all; a method that never looks at one spares them.
    """

    name: str
    description: str
    gate: str
    on_policy: str
    offline: str
    samples: bool = True
    on_policy_options: Mapping[str, Any] = field(default_factory=dict)


METHODS = {
    method.name: method
    for method in (
        Method(
            name="hpt",
            description="Hybrid Post-Training (§3.4): RL where more than `threshold` rollouts are solved, else SFT",
            gate="switch",
            on_policy="grpo",
            on_policy_options={"aggregation": "token_sum"},  # Eq. 11
            offline="sft",
        ),
        Method(
            name="sft",
            description="Supervised fine-tuning on the demonstrations; nothing is sampled",
            gate="demonstrations",
            on_policy="grpo",
            offline="sft",
            samples=False,
        ),
        Method(
            name="grpo",
            description="Group-relative policy optimization on the rollouts alone",
            gate="rollouts",
            on_policy="grpo",
            offline="sft",
        ),
        Method(
            name="ppo",
            description="Proximal policy optimization on the rollouts, with a value head and GAE",
            gate="rollouts",
            on_policy="ppo",
            offline="sft",
        ),
        Method(
            name="luffy",
            description="LUFFY: each group holds its demonstration; advantages over on ∪ off, shaped offline weights",
            gate="both",
            on_policy="grpo",
            offline="luffy",
        ),
        Method(
            name="srft",
            description="SRFT's RL term (§A.3): each group holds its demonstration, with π_ref = 1 offline",
            gate="both",
            on_policy="grpo",
            offline="srft",
        ),
    )
}


def method(name: str) -> Method:
    """The method of this name. Raises ValueError on an unknown one, naming the nearest."""
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)
        raise ValueError(f"unknown method {name!r}; did you mean {close[0]!r}?")
    return METHODS[name]
