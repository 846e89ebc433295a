"""How completions are drawn, for training and for evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from unigrad.config import Config, RolloutConfig


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

    @property
    def is_truncated(self) -> bool:
        """Whether tokens that the policy gives some probability cannot be sampled."""
        return self.temperature > 0 and (self.top_p < 1 or self.top_k > 0)

    @classmethod
    def of_training(cls, rollout: RolloutConfig) -> Self:
        """As the section `rollout` says."""
        return cls(
            num_generations=rollout.num_generations,
            max_completion_length=rollout.max_completion_length,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            top_k=rollout.top_k,
            stop=rollout.stop,
        )

    @classmethod
    def of_held_out(cls, config: Config) -> Self:
        """As the section `eval` says, for a run's held-out problems; what ends a completion is the run's."""
        return cls(
            num_generations=config.held_out_generations,
            max_completion_length=config.held_out_completion_length,
            temperature=config.eval.temperature,
            top_p=config.eval.top_p,
            stop=config.rollout.stop,
        )
