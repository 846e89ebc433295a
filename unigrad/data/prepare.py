"""Problems made ready for training: tokenised, measured against the limits, their demonstrations verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unigrad.data.demonstrations import encode_demonstration
from unigrad.data.templates import PromptTemplate, encode_prompt, render
from unigrad.data.turns import turn_of
from unigrad.types import Attempt, Problem, Reason, Scorer, Trajectory, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PreparedProblem:
    """A problem, its prompt as text and as ids, and its demonstration (None: it has none, or one over the limit)."""

    problem: Problem
    prompt: str
    prompt_ids: tuple[int, ...]
    demonstration: Trajectory | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationReport:
    """What became of a problem set. Lengths are in tokens; the dropped are named by their problems' ids.

    problems: how many were read.
    demonstrations: how many are kept, right or wrong; demonstrations_solved: how many of them earn the full reward.
    reasons: the verdicts on those.
    """

    problems: int
    max_prompt_length: int
    dropped_long_prompts: tuple[str, ...]
    demonstrations: int
    max_demonstration_length: int | None
    dropped_long_demonstrations: tuple[str, ...]
    demonstrations_solved: int
    reasons: Mapping[Reason, int]
    first_unsolved: tuple[Problem, Verdict] | None
    """The first demonstration that does not earn the full reward."""

    @property
    def demonstrations_right(self) -> float | None:
        """The share of the kept demonstrations that earns the full reward; None where there are none."""
        return self.demonstrations_solved / self.demonstrations if self.demonstrations else None

    def lines(self) -> list[str]:
        """For the console."""
        kept = self.problems - len(self.dropped_long_prompts)
        lines = [f"{kept} problems"]
        if self.max_demonstration_length is not None:
            lines[0] += f", {self.demonstrations} with a demonstration"
        if self.demonstrations_right is not None:
            others = [f"{count} {reason}" for reason, count in self.reasons.items() if reason is not Reason.RIGHT]
            lines.append(
                f"{self.demonstrations_right:.1%} of the demonstrations earn the reward"
                + (f" ({', '.join(others)})" if others else "")
            )
            if self.demonstrations_right < FEW:
                lines.append(self._warning())
        for what, dropped, limit in (
            ("problems", self.dropped_long_prompts, f"prompt over {self.max_prompt_length}"),
            ("demonstrations", self.dropped_long_demonstrations, f"over {self.max_demonstration_length}"),
        ):
            if dropped:
                named = ", ".join(dropped[:3]) + (", …" if len(dropped) > 3 else "")
                lines.append(f"dropped {len(dropped)} {what}, {limit} tokens: {named}")
        return lines

    def _warning(self) -> str:
        """What is likely to be wrong where few demonstrations earn the reward, with the first that does not."""
        assert self.first_unsolved is not None  # or all would earn it
        problem, verdict = self.first_unsolved
        most = max((each for each in self.reasons if each is not Reason.RIGHT), key=lambda each: self.reasons[each])
        share = f"only {self.demonstrations_right:.0%} of the demonstrations earn"
        earn = share if self.demonstrations_solved else "none of the demonstrations earns"
        return (
            f"WARNING: {earn} the reward, so SFT teaches what RL counts as a failure: {_CAUSES[most]}. "
            f"The first, {problem.id}: gold {problem.answer!r}, "
            + (f"read {verdict.extracted!r}" if verdict.extracted is not None else "nothing was read")
            + f", {verdict.reason}"
        )


FEW = 0.5
"""Where a smaller share of the demonstrations earns the reward, something is likely to be wrong with the data."""
_CAUSES = {
    Reason.UNPARSEABLE: "they state no final answer that can be read (in \\boxed{…}, or as their last number)",
    Reason.WRONG: "the answers that they state are not those of the answer column, or are in another form",
    Reason.BAD_GOLD: "the answer column holds what is no answer (a rationale, a template, another column's text)",
    Reason.TIMED_OUT: "their answers take too long to check (verify.timeout_seconds)",
    Reason.REWARD_FUNCTION: "the reward function gives them less than 1",
    Reason.UNSCORED: "the reward function gives them None",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    problems: tuple[PreparedProblem, ...]
    report: PreparationReport


def prepare_problems(
    problems: Sequence[Problem],
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_prompt_length: int,
    max_demonstration_length: int | None,
    scorer: Scorer,
) -> Prepared:
    """Tokenise, drop what is over the limits (in tokens; nothing is ever cut), and score the demonstrations.

    A wrong demonstration stays, with its reward: an imperfect expert is part of the situation. An over-long one leaves
    its problem without a demonstration: cut, it would lose its end token. Without a max_demonstration_length none is
    looked at.

    Raises ValueError where no problem is left.
    """
    prompts = [tuple(encode_prompt(template, problem.problem, tokenizer)) for problem in problems]
    kept = [
        (problem, render(template, problem.problem, tokenizer), ids)
        for problem, ids in zip(problems, prompts, strict=True)
        if len(ids) <= max_prompt_length
    ]
    if not kept:
        lengths = [len(ids) for ids in prompts]
        seen = f"the prompts have {min(lengths)} to {max(lengths)}" if lengths else "there were no problems at all"
        raise ValueError(f"no problem is left within a max_prompt_length of {max_prompt_length} tokens: {seen}")

    turn = turn_of(template, tokenizer)
    solutions = [
        (position, turn.completion(problem.solution), tuple(encode_demonstration(problem.solution, tokenizer, turn)))
        for position, (problem, _, _) in enumerate(kept)
        if problem.solution is not None and max_demonstration_length is not None
    ]
    limit = max_demonstration_length or 0
    short = [item for item in solutions if len(item[2]) <= limit]
    scores = scorer([Attempt(kept[position][0], kept[position][1], solution) for position, solution, _ in short])
    demonstrations = {
        position: Trajectory(
            prompt_ids=kept[position][2],
            completion_ids=ids,
            rollout_logprobs=None,
            text=solution,
            truncated=False,
            reward=score.reward,
            verdict=score.verdict,
        )
        for (position, solution, ids), score in zip(short, scores, strict=True)
    }
    report = PreparationReport(
        problems=len(problems),
        max_prompt_length=max_prompt_length,
        dropped_long_prompts=tuple(
            problem.id for problem, ids in zip(problems, prompts, strict=True) if len(ids) > max_prompt_length
        ),
        demonstrations=len(demonstrations),
        max_demonstration_length=max_demonstration_length,
        dropped_long_demonstrations=tuple(kept[position][0].id for position, _, ids in solutions if len(ids) > limit),
        demonstrations_solved=sum(each.solved for each in demonstrations.values()),
        reasons=Counter(score.verdict.reason for score in scores),
        first_unsolved=next(
            (
                (kept[position][0], score.verdict)
                for (position, _, _), score in zip(short, scores, strict=True)
                if not demonstrations[position].solved
            ),
            None,
        ),
    )
    prepared = (
        PreparedProblem(problem, prompt, ids, demonstrations.get(position))
        for position, (problem, prompt, ids) in enumerate(kept)
    )
    return Prepared(tuple(prepared), report)
