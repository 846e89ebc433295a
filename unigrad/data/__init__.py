"""Problem sets, prompt templates, demonstrations, and the order of the questions."""

from unigrad.data.demonstrations import encode_demonstration
from unigrad.data.order import epoch_order, questions_at_step
from unigrad.data.prepare import PreparationReport, Prepared, PreparedProblem, prepare_problems
from unigrad.data.problems import load_problems
from unigrad.data.templates import (
    PROMPT_TEMPLATES,
    PromptTemplate,
    encode_prompt,
    prompt_template,
    render,
    template_names,
)
from unigrad.data.turns import Turn, turn_of

__all__ = [
    "PROMPT_TEMPLATES",
    "PreparationReport",
    "Prepared",
    "PreparedProblem",
    "PromptTemplate",
    "Turn",
    "encode_demonstration",
    "encode_prompt",
    "epoch_order",
    "load_problems",
    "prepare_problems",
    "prompt_template",
    "questions_at_step",
    "render",
    "template_names",
    "turn_of",
]
