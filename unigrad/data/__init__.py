"""Problem sets, prompt templates, demonstrations, and the order of the questions."""

from unigrad.data.columns import columns_line
from unigrad.data.demonstrations import encode_demonstration
from unigrad.data.levels import of_levels
from unigrad.data.order import Share, epoch_order, mixed_epoch, questions_at_step, share
from unigrad.data.pass_rates import of_pass_rates
from unigrad.data.prepare import (
    PreparationReport,
    Prepared,
    PreparedProblem,
    contexts_left_out,
    contexts_warning,
    prepare_problems,
    prompted,
)
from unigrad.data.problems import load_problems
from unigrad.data.templates import (
    PROMPT_TEMPLATES,
    PromptTemplate,
    encode_prompt,
    fitted,
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
    "columns_line",
    "contexts_left_out",
    "contexts_warning",
    "encode_demonstration",
    "encode_prompt",
    "epoch_order",
    "fitted",
    "load_problems",
    "mixed_epoch",
    "of_levels",
    "of_pass_rates",
    "prepare_problems",
    "prompt_template",
    "prompted",
    "questions_at_step",
    "render",
    "share",
    "template_names",
    "turn_of",
]
