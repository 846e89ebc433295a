"""What a rollout engine is: prompts in, sampled completions with their log-probs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt. `key` is the problem's id: with seed and sample index it fixes the random numbers."""

    key: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 leave the distribution whole.

    stop: strings that end a completion. stop_token_ids: tokens that do, besides those of the model and its tokenizer.
    """

    num_generations: int
    max_completion_length: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError on a number out of its range, or an empty stop string."""
        sound = {
            "num_generations": self.num_generations >= 1,
            "max_completion_length": self.max_completion_length >= 1,
            "temperature": self.temperature >= 0,
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "stop": all(self.stop),
        }
        for name, fine in sound.items():
            if not fine:
                raise ValueError(f"sampling cannot have {name}={getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion.

    token_ids: the sampled ids, the end token included where one was sampled.
    logprobs: log π(token) for each of them, from the full softmax at the sampling temperature (temperature 1 where
        sampling is greedy) and before top-k and top-p: the policy whose ratio to π_θ is 1 until θ changes.
    entropies: the exact entropy over the vocabulary of the same distribution, in nats, a number a token.
    truncated: it ended because its length ran out, not by an end token or a stop string.
    ended: its last token is an end token.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    truncated: bool
    ended: bool

    def text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What was written, special tokens included, without the end token: what a demonstration's text is too."""
        ids = self.token_ids[:-1] if self.ended else self.token_ids
        return str(tokenizer.decode(ids, skip_special_tokens=False))


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
