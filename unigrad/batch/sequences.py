"""Trajectories as flat tensors over their tokens.

Shapes: S trajectories, L tokens of all of them, M completion tokens of all of them; in that order, one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from unigrad.batch.flat import moved, owners, ranges, starts
from unigrad.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """What is known of each trajectory before an update; log-probs in nats.

    token_ids_L: prompts and completions. prompt_S, completion_S: their lengths in tokens, each at least 1.
    temperature_S: of the distribution whose log-probs count. sampled_S: a rollout; else a demonstration.
    rollout_logp_M: what the engine that sampled said, 0 where nothing was sampled. old_logp_M: log π_old, the trainer's
    own where the algorithms correct for the engine or it is not exact, else `rollout_logp_M`; None: that of the forward
    that trains, whose weights sampled the rollouts. reference_logp_M: of a frozen reference
    model. values_M: the value head's V(s_t) when the rollouts were made. None: no algorithm reads it.
    """

    token_ids_L: Tensor
    prompt_S: Tensor
    completion_S: Tensor
    temperature_S: Tensor
    sampled_S: Tensor
    rollout_logp_M: Tensor
    old_logp_M: Tensor | None
    reference_logp_M: Tensor | None = None
    values_M: Tensor | None = None

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory], rollout_temperature: float) -> Self:
        """Rollouts are seen at the temperature that they were sampled at, demonstrations at 1.

        Raises ValueError as `of_ids` does.
        """
        rows = [(each.prompt_ids, each.completion_ids) for each in trajectories]
        sampled = [each.on_policy for each in trajectories]
        sequences = cls.of_ids(rows, [rollout_temperature if each else 1.0 for each in sampled])
        logprobs = [each.rollout_logprobs or (0.0,) * len(each.completion_ids) for each in trajectories]
        rollout_logp_M = torch.tensor([value for row in logprobs for value in row], dtype=torch.float64)
        return replace(
            sequences,
            sampled_S=torch.tensor(sampled, dtype=torch.bool),
            rollout_logp_M=rollout_logp_M,
            old_logp_M=rollout_logp_M,
        )

    @classmethod
    def of_ids(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperatures: Sequence[float]) -> Self:
        """Prompts and completions as ids, of which nothing else is known.

        Raises ValueError where a prompt or a completion is empty, or a temperature is not above 0.
        """
        for index, ((prompt, completion), temperature) in enumerate(zip(rows, temperatures, strict=True)):
            if not prompt or not completion:
                part = "completion" if prompt else "prompt"
                raise ValueError(f"row {index}: the {part} must have at least one token")
            if not temperature > 0:
                raise ValueError(
                    f"row {index}: the temperature must be above 0, not {temperature} (1 for greedy rollouts)"
                )
        completion_S = torch.tensor([len(completion) for _, completion in rows], dtype=torch.int64)
        unknown_M = torch.zeros(int(completion_S.sum()), dtype=torch.float64)
        return cls(
            token_ids_L=torch.tensor([token for row in rows for part in row for token in part], dtype=torch.int64),
            prompt_S=torch.tensor([len(prompt) for prompt, _ in rows], dtype=torch.int64),
            completion_S=completion_S,
            temperature_S=torch.tensor(temperatures, dtype=torch.float64),
            sampled_S=torch.zeros(len(rows), dtype=torch.bool),
            rollout_logp_M=unknown_M,
            old_logp_M=unknown_M,
        )

    def __len__(self) -> int:
        return len(self.prompt_S)

    @property
    def length_S(self) -> Tensor:
        """Tokens of prompt and completion."""
        return self.prompt_S + self.completion_S

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same, its floating-point numbers as `dtype`."""
        return moved(self, device, dtype)

    @property
    def sequence_M(self) -> Tensor:
        """The trajectory of each completion token."""
        return owners(self.completion_S)

    @property
    def target_L(self) -> Tensor:
        """Where in `token_ids_L` each completion token stands. i[M]."""
        return ranges(starts(self.length_S) + self.prompt_S, self.completion_S)

    def completion_tokens(self, indices_P: Tensor) -> Tensor:
        """The completion tokens of the trajectories `indices_P`, as positions in those of all. i[their sum]."""
        return ranges(starts(self.completion_S)[indices_P], self.completion_S[indices_P])

    def take(self, indices_P: Tensor) -> Self:
        """These trajectories, in this order."""
        tokens_M = self.completion_tokens(indices_P)

        def of_tokens(values_M: Tensor | None) -> Tensor | None:
            return None if values_M is None else values_M[tokens_M]

        return replace(
            self,
            token_ids_L=self.token_ids_L[ranges(starts(self.length_S)[indices_P], self.length_S[indices_P])],
            prompt_S=self.prompt_S[indices_P],
            completion_S=self.completion_S[indices_P],
            temperature_S=self.temperature_S[indices_P],
            sampled_S=self.sampled_S[indices_P],
            rollout_logp_M=self.rollout_logp_M[tokens_M],
            old_logp_M=of_tokens(self.old_logp_M),
            reference_logp_M=of_tokens(self.reference_logp_M),
            values_M=of_tokens(self.values_M),
        )
