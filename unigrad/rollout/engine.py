"""What a rollout engine is: prompts in, sampled completions with their log-probs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unigrad.rollout.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt. `key` is the problem's id: with seed and sample index it fixes the random numbers."""

    key: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion.

    token_ids: the sampled ids, the end token included where one was sampled.
    logprobs: log π(token) for each of them, from the full softmax at the sampling temperature (temperature 1 where
        sampling is greedy) and before top-k and top-p: the policy whose ratio to π_θ is 1 until θ changes.
    entropies: the exact entropy over the vocabulary of the same distribution, in nats, a number a token.
    truncated: it ended because its length ran out, not by an end token or a stop string.
    ended: its last token is an end token.
    text: what was written, special tokens included, without the end token: what a demonstration's text is too.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    truncated: bool
    ended: bool
    text: str


OnCompletion = Callable[[Prompt, int, Completion], None]
"""Told of a completion by its prompt and its index in the group."""


class Engine(Protocol):
    """Samples from the policy as it stands now. Implementations differ in speed, never in meaning."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_generations` completions for each prompt, in the order of the prompts.

        A completion's random numbers depend on (`seed`, `prompt.key`, its index in the group) alone: whoever shares
        its batch changes nothing but rounding. `on_completion` is told of each as soon as it has ended.
        """
        ...
