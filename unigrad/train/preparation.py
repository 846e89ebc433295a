"""Problem sets made ready for a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from unigrad.config import DataConfig
from unigrad.data import PreparedProblem, PromptTemplate, Turn, columns_line, fitted, prepare_problems
from unigrad.policy import Policy
from unigrad.types import Problem, Scorer


def fitted_to(
    template: PromptTemplate, data: DataConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[PromptTemplate, list[str]]:
    """The template as the section `data` has it used with this tokenizer, and what is to be said of that: see
    `fitted`."""
    return fitted(
        template,
        tokenizer,
        chat=data.apply_chat_template,
        chat_kwargs=data.chat_template_kwargs,
        system_prompt=data.system_prompt,
    )


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes problem sets ready for a policy, and says what became of each."""

    policy: Policy
    template: PromptTemplate
    turn: Turn
    scorer: Scorer
    max_prompt_length: int
    say: Callable[[str], None]

    def __call__(
        self, problems: Sequence[Problem], name: str, max_demonstration_length: int | None
    ) -> list[PreparedProblem]:
        """Raises ValueError where nothing is left, or the model does not embed a token."""
        prepared = prepare_problems(
            problems,
            self.template,
            self.policy.tokenizer,
            max_prompt_length=self.max_prompt_length,
            max_demonstration_length=max_demonstration_length,
            scorer=self.scorer,
            turn=self.turn,
        )
        for each in prepared.problems:
            self.policy.check_embedded(each.prompt_ids, f"{name}: the prompt of problem {each.problem.id}")
            if each.demonstration is not None:
                completion_ids = each.demonstration.completion_ids
                self.policy.check_embedded(completion_ids, f"{name}: the demonstration of problem {each.problem.id}")
        if columns := columns_line(problems):
            self.say(f"{name}: {columns}")
        for line in prepared.report.lines():
            self.say(f"{name}: {line}")
        return list(prepared.problems)
