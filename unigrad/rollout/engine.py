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
    entropies: the exact entropy over the vocabulary of the same distribution, in nats, a number a token; empty where
        the engine does not say.
    truncated: it ended because its length ran out, not by an end token or a stop string.
    ended: its last token is an end token.
    text: what was written, special tokens included, without the end token: what a demonstration's text is too.
    cut_masses: the probability mass that top-k and top-p kept from being sampled, a number a token; empty where the
        engine does not say.
    weights_version: of an engine that holds weights of its own, how often it had been given the policy's; None: it
        samples from the policy itself.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    truncated: bool
    ended: bool
    text: str
    cut_masses: tuple[float, ...] = ()
    weights_version: int | None = None


OnCompletion = Callable[[Prompt, int, Completion], None]
"""Told of a completion by its prompt and its index in the group."""


class EngineError(OSError):
    """An engine that failed while a run goes on, through no fault of the run's own: its state is whole."""


class Engine(Protocol):
    """Samples from the policy as it stands now. Implementations differ in speed, never in meaning.

    An engine whose log-probs are those of a float32 forward, to rounding, may say so by an attribute `is_exact = True`.
    Of any other, and of any beside a trainer in another precision, a ratio π_θ/π_old would be 1 only to that precision,
    and be clipped for it: the trainer then takes log π_old from its own forward. One that holds a process or files has
    a `close`, which a run calls at its end.
    """

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_generations` completions for each prompt, in the order of the prompts.

        A completion's random numbers depend on (`seed`, `prompt.key`, its index in the group) alone: whoever shares
        its batch changes nothing but rounding. `on_completion` is told of each as soon as it has ended.
        """
        ...
