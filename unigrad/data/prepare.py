"""Problems made ready for training: tokenised, measured against the limits, their demonstrations verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unigrad.data.demonstrations import encode_demonstration
from unigrad.data.templates import PromptTemplate, encode_rendered, render
from unigrad.data.turns import Turn, turn_of
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
    contexts_left_out: how many bring a system prompt or earlier turns that the template has no place for.
    demonstrations: how many are kept, right or wrong; demonstrations_solved: how many of them earn the full reward.
    reasons: the verdicts on those.
    """

    problems: int
    max_prompt_length: int
    dropped_long_prompts: tuple[str, ...]
    contexts_left_out: int
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
        if self.contexts_left_out:
            lines.append(contexts_warning(self.contexts_left_out))
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
    Reason.REWARD_FUNCTION: "the reward function gives them less than method.solved_at",
    Reason.UNSCORED: "the reward function gives them None",
    Reason.REWARD_TIMED_OUT: "the reward function does not return in time (verify.reward_timeout_seconds)",
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
    turn: Turn | None = None,
) -> Prepared:
    """Tokenise, drop what is over the limits (in tokens; nothing is ever cut), and score the demonstrations.

    A wrong demonstration stays, with its reward: an imperfect expert is part of the situation. An over-long one leaves
    its problem without a demonstration: cut, it would lose its end token. Without a max_demonstration_length none is
    looked at. turn: what demonstrations begin and end with; None: as the template has it.

    Raises ValueError where no problem is left, and where a prompt has ended the thought that a demonstration begins.
    """
    rendered = [prompted(problem, template, tokenizer) for problem in problems]
    kept = [each for each in rendered if len(each.prompt_ids) <= max_prompt_length]
    if not kept:
        lengths = [len(each.prompt_ids) for each in rendered]
        seen = f"the prompts have {min(lengths)} to {max(lengths)}" if lengths else "there were no problems at all"
        raise ValueError(f"no problem is left within a data.max_prompt_length of {max_prompt_length} tokens: {seen}")
    limit = max_demonstration_length
    solutions = {} if limit is None else _solutions(kept, turn or turn_of(template, tokenizer), tokenizer)
    short = {position: each for position, each in solutions.items() if len(each[1]) <= (limit or 0)}
    demonstrations = _scored(short, kept, scorer)
    unsolved = next((position for position, each in demonstrations.items() if not each.solved), None)
    report = PreparationReport(
        problems=len(problems),
        max_prompt_length=max_prompt_length,
        dropped_long_prompts=tuple(each.problem.id for each in rendered if len(each.prompt_ids) > max_prompt_length),
        contexts_left_out=contexts_left_out(problems, template),
        demonstrations=len(demonstrations),
        max_demonstration_length=limit,
        dropped_long_demonstrations=tuple(kept[each].problem.id for each in solutions if each not in short),
        demonstrations_solved=sum(each.solved for each in demonstrations.values()),
        reasons=Counter(each.verdict.reason for each in demonstrations.values()),
        first_unsolved=None if unsolved is None else (kept[unsolved].problem, demonstrations[unsolved].verdict),
    )
    prepared = (replace(each, demonstration=demonstrations.get(position)) for position, each in enumerate(kept))
    return Prepared(tuple(prepared), report)


def contexts_left_out(problems: Iterable[Problem], template: PromptTemplate) -> int:
    """How many of the problems bring a system prompt or earlier turns that the template has no place for."""
    return 0 if template.chat else sum(bool(template.context(problem.context)) for problem in problems)


def contexts_warning(count: int) -> str:
    return (
        f"WARNING: {count} problems bring a system prompt or earlier turns, which this prompt template has no place "
        "for: they are left out (--data.prompt_template chat keeps them)"
    )


def prompted(problem: Problem, template: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> PreparedProblem:
    """The problem with its prompt, without its demonstration. Raises ValueError as `render` does."""
    prompt = render(template, problem.problem, tokenizer, problem.context)
    return PreparedProblem(problem, prompt, tuple(encode_rendered(template, prompt, tokenizer)), None)


def _solutions(
    kept: Sequence[PreparedProblem], turn: Turn, tokenizer: PreTrainedTokenizerBase
) -> dict[int, tuple[str, tuple[int, ...]]]:
    """By the positions of their problems, the demonstrations as they would train: as text and as ids."""
    solutions = {}
    for position, each in enumerate(kept):
        if (solution := each.problem.solution) is not None:
            text = turn.completion(solution)
            if marker := turn.second_thought(text):
                raise ValueError(
                    f"the demonstration of problem {each.problem.id} begins with {marker}, but the prompt template has "
                    f"written a thought before it, {turn.opening.rstrip()[-60:]!r}: the model would think twice; take "
                    "a template that writes none, such as 'boxed', or demonstrations without theirs"
                )
            solutions[position] = (text, tuple(encode_demonstration(solution, tokenizer, turn)))
    return solutions


def _scored(
    solutions: Mapping[int, tuple[str, tuple[int, ...]]], kept: Sequence[PreparedProblem], scorer: Scorer
) -> dict[int, Trajectory]:
    attempts = [
        Attempt(kept[each].problem, kept[each].prompt, text, completion_ids=ids)
        for each, (text, ids) in solutions.items()
    ]
    scores = scorer.finish([scorer.start(attempt) for attempt in attempts])
    return {
        position: Trajectory(
            prompt_ids=kept[position].prompt_ids,
            completion_ids=ids,
            rollout_logprobs=None,
            text=text,
            truncated=False,
            reward=score.reward,
            verdict=score.verdict,
            reward_parts=score.parts,
        )
        for (position, (text, ids)), score in zip(solutions.items(), scores, strict=True)
    }
