"""Texts to completions, without a verdict: what a policy says to problems of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unigrad.data import PromptTemplate, Turn, prompted
from unigrad.policy import Policy
from unigrad.rollout import Engine, Sampling
from unigrad.rollout.engine import Prompt
from unigrad.types import Problem


def complete(
    policy: Policy,
    engine: Engine,
    problems: Sequence[str],
    template: PromptTemplate,
    turn: Turn,
    sampling: Sampling,
    seed: int,
) -> list[list[str]]:
    """`sampling.num_generations` completions of each problem, framed by the template.

    Raises ValueError where the template does not go with the tokenizer, or a prompt holds what the model does not
    embed or leaves no room for a completion.
    """
    if turn.end_id is not None:
        sampling = replace(sampling, stop_token_ids=(*sampling.stop_token_ids, turn.end_id))
    prompts = []
    for number, text in enumerate(problems):
        ids = prompted(Problem(id=str(number), problem=text, answer=""), template, policy.tokenizer).prompt_ids
        policy.check_embedded(ids, f"problem {number}")
        prompts.append(Prompt(str(number), ids))
    return [[each.text for each in group] for group in engine.generate(prompts, sampling, seed)]
