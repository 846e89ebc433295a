"""Problems to scored rollouts: sample from the policy, and score each completion while others are in the making."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from unigrad.data import PreparedProblem
from unigrad.rollout.engine import Completion, Engine, Prompt
from unigrad.rollout.sampling import Sampling
from unigrad.types import Attempt, Scorer, Trajectory
from unigrad.world import ALONE, World


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The scored completions of each problem, in order, with what their making cost.

    entropy: mean over all sampled tokens of the exact entropy of their distribution, in nats; None where the engine
    does not say. scoring_seconds: what scoring took after the last completion had ended. cut_mass: mean over the tokens
    of the probability mass that the sampler's top-k and top-p left out; None where it has neither, or the engine does
    not say.
    """

    trajectories: list[tuple[Trajectory, ...]]
    entropy: float | None
    sampling_seconds: float
    scoring_seconds: float
    cut_mass: float | None = None

    @classmethod
    def of_all(cls, parts: Sequence[Rollouts]) -> Rollouts:
        """Of the problems of several, one after another; what was made side by side took as long as the slowest."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            [group for part in parts for group in part.trajectories],
            entropy=_mean([(part.entropy, part.tokens) for part in parts]),
            sampling_seconds=max(part.sampling_seconds for part in parts),
            scoring_seconds=max(part.scoring_seconds for part in parts),
            cut_mass=_mean([(part.cut_mass, part.tokens) for part in parts]),
        )

    @classmethod
    def none(cls, problems: int) -> Self:
        """Where nothing is sampled."""
        return cls([()] * problems, entropy=0.0, sampling_seconds=0.0, scoring_seconds=0.0)

    @property
    def tokens(self) -> int:
        return sum(len(each.completion_ids) for group in self.trajectories for each in group)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A completion whose scoring has begun: by the problem's and its own index, and what `Scorer.finish` takes."""

    problem: int
    index: int
    completion: Completion
    started: Any


def roll_out(
    engine: Engine,
    scorer: Scorer,
    problems: Sequence[PreparedProblem],
    sampling: Sampling,
    seed: int,
    on_sampled: Callable[[Sampled], None] | None = None,
    world: World = ALONE,
) -> Rollouts:
    """`sampling.num_generations` scored completions of each problem; each rank of `world` makes those of its share, and
    all get all of them.

    A problem that stands in `problems` again (a step that straddles two epochs) gets random numbers of its own.
    `on_sampled` is told of each of this rank's completions as soon as it has ended.
    """
    keys = list(enumerate(_keys(problems)))
    prompts = {key: place for place, key in world.share(keys)}
    mine = _roll_out(engine, scorer, problems, prompts, sampling, seed, on_sampled)
    return Rollouts.of_all(world.gather([mine]))


def _keys(problems: Sequence[PreparedProblem]) -> Iterator[str]:
    """A name for each place, by which its random numbers are drawn."""
    met: Counter[str] = Counter()
    for prepared in problems:
        key = prepared.problem.id
        yield f"{key}#{met[key]}" if met[key] else key
        met[key] += 1


def _roll_out(
    engine: Engine,
    scorer: Scorer,
    problems: Sequence[PreparedProblem],
    prompts: Mapping[str, int],
    sampling: Sampling,
    seed: int,
    on_sampled: Callable[[Sampled], None] | None,
) -> Rollouts:
    """Of those problems whose places `prompts` has, by their keys, in its order."""
    start = time.perf_counter()
    ended: dict[tuple[int, int], Sampled] = {}

    def begin_scoring(prompt: Prompt, index: int, completion: Completion) -> None:
        place = prompts[prompt.key]
        prepared = problems[place]
        text, ids = completion.text, completion.token_ids
        attempt = Attempt(prepared.problem, prepared.prompt, text, completion.truncated, ids)
        ended[place, index] = sampled = Sampled(place, index, completion, scorer.start(attempt))
        if on_sampled is not None:
            on_sampled(sampled)

    asked = [Prompt(key, problems[place].prompt_ids) for key, place in prompts.items()]
    engine.generate(asked, sampling, seed, begin_scoring)
    all_sampled = time.perf_counter()
    in_order = [ended[key] for key in sorted(ended)]
    trajectories: dict[int, list[Trajectory]] = {place: [] for place in prompts.values()}
    for each, score in zip(in_order, scorer.finish([each.started for each in in_order]), strict=True):
        trajectories[each.problem].append(
            Trajectory(
                prompt_ids=problems[each.problem].prompt_ids,
                completion_ids=each.completion.token_ids,
                rollout_logprobs=each.completion.logprobs,
                text=each.completion.text,
                truncated=each.completion.truncated,
                reward=score.reward,
                verdict=score.verdict,
                reward_parts=score.parts,
                weights_version=each.completion.weights_version,
            )
        )
    entropies = [value for each in in_order for value in each.completion.entropies]
    cut = [value for each in in_order for value in each.completion.cut_masses]
    return Rollouts(
        [tuple(group) for group in trajectories.values()],
        entropy=sum(entropies) / len(entropies) if entropies else None,
        sampling_seconds=all_sampled - start,
        scoring_seconds=time.perf_counter() - all_sampled,
        cut_mass=sum(cut) / len(cut) if cut and sampling.is_truncated else None,
    )


def _mean(parts: Sequence[tuple[float | None, int]]) -> float | None:
    """Over the tokens of all parts, of a mean and its tokens each; None where one that has tokens has no mean."""
    sums = [None if mean is None else mean * tokens for mean, tokens in parts if tokens]
    known = [each for each in sums if each is not None]
    return sum(known) / sum(tokens for _, tokens in parts) if known and len(known) == len(sums) else None
