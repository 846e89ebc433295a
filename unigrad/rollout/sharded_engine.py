"""Sampling from a policy that is in parts over the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unigrad.policy import Policy
from unigrad.rollout.engine import Completion, Engine, OnCompletion, Prompt
from unigrad.rollout.sampling import Sampling


@dataclass(frozen=True, slots=True)
class ShardedEngine:
    """An `Engine` on the whole policy beside a sharded one, whose weights are gathered for as long as it samples: on
    every rank all of them, and none while it trains. Every rank must call it equally often, with prompts or without.

    engine: on what `policy.whole()` gives.
    """

    engine: Engine
    policy: Policy

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """See `Engine.generate`."""
        with self.policy.whole():
            return self.engine.generate(prompts, sampling, seed, on_completion)
