"""Problem sets, prompt templates, demonstrations, and the order of the questions."""

from unigrad.data.demonstrations import encode_demonstration
from unigrad.data.levels import of_levels
from unigrad.data.order import Share, epoch_order, mixed_epoch, questions_at_step, share
from unigrad.data.prepare import PreparationReport, Prepared, PreparedProblem, prepare_problems, prompted
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
    "Share",
    "Turn",
    "encode_demonstration",
    "encode_prompt",
    "epoch_order",
    "load_problems",
    "mixed_epoch",
    "of_levels",
    "prepare_problems",
    "prompt_template",
    "prompted",
    "questions_at_step",
    "render",
    "share",
    "template_names",
    "turn_of",
]
