"""Problems to scored rollouts: sample from the policy, decode, score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unigrad.data import PreparedProblem
from unigrad.rollout import Engine, Prompt, Sampling
from unigrad.types import Attempt, Scorer, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The scored completions of each problem, in order, with what their making cost.

    entropy: mean over all sampled tokens of the exact entropy of their distribution, in nats.
    """

    trajectories: list[tuple[Trajectory, ...]]
    entropy: float
    sampling_seconds: float
    scoring_seconds: float

    @property
    def tokens(self) -> int:
        return sum(len(each.completion_ids) for group in self.trajectories for each in group)


def sample_and_score(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    scorer: Scorer,
    problems: Sequence[PreparedProblem],
    sampling: Sampling,
    seed: int,
) -> Rollouts:
    """`sampling.num_generations` scored completions of each problem.

    A problem that stands in `problems` again (a step that straddles two epochs) gets random numbers of its own.
    """
    start = time.perf_counter()
    met: Counter[str] = Counter()
    prompts = []
    for prepared in problems:
        key = prepared.problem.id
        prompts.append(Prompt(f"{key}#{met[key]}" if met[key] else key, prepared.prompt_ids))
        met[key] += 1
    groups = engine.generate(prompts, sampling, seed)
    sampled = time.perf_counter()
    texts = [[completion.text(tokenizer) for completion in group] for group in groups]
    attempts = [
        Attempt(prepared.problem, prepared.prompt, text, completion.truncated)
        for prepared, group, group_texts in zip(problems, groups, texts, strict=True)
        for completion, text in zip(group, group_texts, strict=True)
    ]
    scores = iter(scorer(attempts))
    trajectories = [
        tuple(
            Trajectory(
                prompt_ids=prepared.prompt_ids,
                completion_ids=completion.token_ids,
                rollout_logprobs=completion.logprobs,
                text=text,
                truncated=completion.truncated,
                reward=(score := next(scores)).reward,
                verdict=score.verdict,
            )
            for completion, text in zip(group, group_texts, strict=True)
        )
        for prepared, group, group_texts in zip(problems, groups, texts, strict=True)
    ]
    entropies = [value for group in groups for completion in group for value in completion.entropies]
    return Rollouts(
        trajectories,
        entropy=sum(entropies) / max(len(entropies), 1),
        sampling_seconds=sampled - start,
        scoring_seconds=time.perf_counter() - sampled,
    )
