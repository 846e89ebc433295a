"""Prompt templates, as data: what stands around a problem, and the exact token ids that the model is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "{problem}"
CHAT_DATE = "26 Jul 2024"
"""Llama 3's chat template writes today's date where it is given none: a run resumed tomorrow would see new prompts."""
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """`text` holds `{problem}`; with `chat` it is the user's message in the tokenizer's own chat template."""

    name: str
    text: str
    chat: bool
    description: str


PROMPT_TEMPLATES: Mapping[str, PromptTemplate] = {
    template.name: template
    for template in (
        PromptTemplate("plain", "{problem}\n", False, "the problem and a line break"),
        PromptTemplate("boxed", f"{{problem}}\n{BOXED}\n", False, f"the problem and '{BOXED}', for base models"),
        PromptTemplate(
            "llama",
            f"Question:\n{{problem}}\n{BOXED}\nAnswer:\nLet's think step by step.",
            False,
            "the paper's zero-shot prompt for Llama: Question, the boxed sentence, Answer, Let's think step by step",
        ),
        PromptTemplate("chat", "{problem}", True, "the tokenizer's chat template around the problem"),
        PromptTemplate("chat_boxed", f"{{problem}}\n{BOXED}", True, f"the same around the problem and '{BOXED}'"),
    )
}


def template_names() -> tuple[str, ...]:
    return tuple(PROMPT_TEMPLATES)


def prompt_template(name_or_text: str) -> PromptTemplate:
    """A registered template, or a template of its own for any text that contains `{problem}`.

    Raises ValueError for anything else, naming the nearest template.
    """
    if name_or_text in PROMPT_TEMPLATES:
        return PROMPT_TEMPLATES[name_or_text]
    if PLACEHOLDER in name_or_text:
        return PromptTemplate("custom", name_or_text, False, "a text of your own")
    nearest = get_close_matches(name_or_text, PROMPT_TEMPLATES, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"no prompt template {name_or_text!r}; the nearest is {nearest!r} of {', '.join(PROMPT_TEMPLATES)}, "
        f"or write a text that contains {PLACEHOLDER}"
    )


def render(template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt as text. A BOS that the tokenizer adds by itself is not in it; a chat template's tokens are.

    Raises ValueError for a chat template with a tokenizer that has none.
    """
    if not template.chat:
        return template.text.replace(PLACEHOLDER, problem)
    text: str = tokenizer.apply_chat_template(
        _messages(template, problem, tokenizer), tokenize=False, add_generation_prompt=True, date_string=CHAT_DATE
    )
    return text


def encode_prompt(template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt's token ids: BOS at most once, and where the tokenizer puts it; never an EOS that ends the prompt.

    Raises ValueError for a chat template with a tokenizer that has none.
    """
    if template.chat:
        chat_ids: list[int] = tokenizer.apply_chat_template(
            _messages(template, problem, tokenizer),
            tokenize=True,
            add_generation_prompt=True,
            return_dict=False,
            date_string=CHAT_DATE,
        )
        return chat_ids
    text = render(template, problem, tokenizer)
    bare: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    if tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token):
        return bare
    ids: list[int] = tokenizer(text, add_special_tokens=True).input_ids
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id != bare[-1] else ids


def _messages(template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]]:
    if not tokenizer.chat_template:
        raise ValueError(
            f"the prompt template {template.name!r} needs a chat template, which the tokenizer of "
            f"{tokenizer.name_or_path or 'this model'} lacks; use 'boxed'"
        )
    return [{"role": "user", "content": template.text.replace(PLACEHOLDER, problem)}]
