"""Prompt templates, as data: what stands around a problem, and the exact token ids that the model is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from unigrad.errors import nearest, one_line
from unigrad.plugins import add

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "{problem}"
CHAT_DATE, CHAT_DAY = "26 Jul 2024", datetime(2024, 7, 26)
"""What chat templates write for today, by `date_string` (Llama 3) or `strftime_now` (SmolLM3, Granite, Mistral): a run
resumed tomorrow must not see new prompts."""
STRFTIME_NOW = "strftime_now"
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """`text` holds `{problem}`; with `chat` it is the user's message in the tokenizer's own chat template."""

    name: str
    text: str
    chat: bool
    description: str


PROMPT_TEMPLATES: dict[str, PromptTemplate] = {
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


def register_template(template: PromptTemplate) -> PromptTemplate:
    """Add a template. Raises ValueError where its name is taken, or its text lacks `{problem}`."""
    if PLACEHOLDER not in template.text:
        raise ValueError(f"the prompt template {template.name!r} lacks {PLACEHOLDER}")
    return add(PROMPT_TEMPLATES, template.name, template, "a prompt template")


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
    raise ValueError(
        f"no prompt template {name_or_text!r}; the nearest is {nearest(name_or_text, PROMPT_TEMPLATES)!r} of "
        f"{', '.join(PROMPT_TEMPLATES)}, or write a text that contains {PLACEHOLDER}"
    )


def render(template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt as text. A BOS that the tokenizer adds by itself is not in it; a chat template's tokens are.

    Raises ValueError for a chat template that the tokenizer lacks, that raises, or that leaves out the problem.
    """
    question = template.text.replace(PLACEHOLDER, problem)
    if not template.chat:
        return question
    if not tokenizer.chat_template:
        raise ValueError(
            f"the prompt template {template.name!r} needs a chat template, which the tokenizer of "
            f"{_name(tokenizer)} lacks; use 'boxed'"
        )
    text = render_chat([user(question)], tokenizer, add_generation_prompt=True)
    # Templates trim, and some set line breaks of their own.
    if "".join(problem.split()) not in "".join(text.split()):
        raise ValueError(
            f"the chat template of {_name(tokenizer)} leaves out the problem {_short(problem)}, or alters it: "
            f"its prompt is {_short(text)}; {_WAY_OUT}"
        )
    return text


def encode_prompt(template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt's token ids: BOS at most once, and where the tokenizer puts it; never an EOS that ends the prompt.

    Raises ValueError as `render` does.
    """
    return encode_rendered(template, render(template, problem, tokenizer), tokenizer)


def encode_rendered(template: PromptTemplate, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of what `render` made with this template; see `encode_prompt`."""
    bare: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    if template.chat or (tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)):
        return bare
    ids: list[int] = tokenizer(text, add_special_tokens=True).input_ids
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id != bare[-1] else ids


def user(content: str) -> dict[str, str]:
    """A message of the user's, as chat templates take it."""
    return {"role": "user", "content": content}


def render_chat(
    messages: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase, *, add_generation_prompt: bool
) -> str:
    """What the tokenizer's chat template makes of `messages`, on any day the same.

    Raises ValueError, one line, on whatever the template raises.
    """
    try:
        source: str = tokenizer.get_chat_template()
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=_pinned_day() + source if STRFTIME_NOW in source else source,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=CHAT_DATE,
        )
    # A template is a program that came with the model: it may raise anything.
    except Exception as error:
        raise ValueError(
            f"the chat template of {_name(tokenizer)} raises {type(error).__name__}: {one_line(error)}; {_WAY_OUT}"
        ) from error
    return text


@cache
def _pinned_day() -> str:
    """A macro that stands before transformers' own `strftime_now`, whose values must be data and no functions."""
    directives = [f"%{flag}{letter}" for letter in "aAbBcdDeFGhHIjmMpRSTuUVwWxXyYzZ" for flag in ("", "-")]
    replaced = "".join(f".replace({each!r}, {CHAT_DAY.strftime(each)!r})" for each in directives)
    # A line of its own, which the template's first block is not to share; transformers takes the break away.
    return (
        f"{{% macro {STRFTIME_NOW}(format) %}}{{{{ format.replace('%%', '\0'){replaced}.replace('\0', '%') }}}}"
        "{% endmacro %}\n"
    )


_SHOWN = 60
_WAY_OUT = "use the prompt template 'boxed', or mend the model's chat template"


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or "this model"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
