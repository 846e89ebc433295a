"""Prompt templates, as data: what stands around a problem, and the exact token ids that the model is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from unigrad.errors import nearest, one_line
from unigrad.plugins import add
from unigrad.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "{problem}"
CHAT_DATE, CHAT_DAY = "26 Jul 2024", datetime(2024, 7, 26)
"""What chat templates write for today, by `date_string` (Llama 3) or `strftime_now` (SmolLM3, Granite, Mistral): a run
resumed tomorrow must not see new prompts."""
STRFTIME_NOW = "strftime_now"
BRACKETS = "<[◁"
"""What the markers of all families begin with: <think>, <|im_end|>, [THINK], ◁think▷."""
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """`text` holds `{problem}`; with `chat` it is the user's message in the tokenizer's own chat template.

    chat_kwargs: what that is given besides. system_prompt: in place of the problem's own, empty: none; None: its own.
    """

    name: str
    text: str
    chat: bool
    description: str
    chat_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None

    def context(self, own: Sequence[Message]) -> tuple[Message, ...]:
        """What stands before the question, where `own` is what the problem brings."""
        if self.system_prompt is None:
            return tuple(own)
        rest = tuple(message for message in own if message[0] not in _SYSTEM)
        return (("system", self.system_prompt), *rest) if self.system_prompt else rest


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


def fitted(
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat: bool | None = None,
    chat_kwargs: Mapping[str, Any] = {},
    system_prompt: str | None = None,
) -> tuple[PromptTemplate, list[str]]:
    """The template as a run uses it with this tokenizer, and what is to be said of that, by the line.

    chat: whether it is the user's message in the tokenizer's chat template. None: as the template has it; and a text
    of the user's own is, where there is a chat template and none of the tokenizer's special tokens in the text.

    Raises ValueError for a system prompt that has no place.
    """
    notes = []
    own = template.name not in PROMPT_TEMPLATES
    if chat is None and own and tokenizer.chat_template:
        chat = not any(marker in template.text for marker in markers(tokenizer) if marker[0] in BRACKETS)
        notes = [
            "data.prompt_template: your text is the user's message in the model's chat template; "
            "data.apply_chat_template false leaves it as it is"
            if chat
            else "data.prompt_template: your text holds special tokens, so no chat template is put around it"
        ]
    used = replace(
        template,
        chat=template.chat if chat is None else chat,
        chat_kwargs=dict(chat_kwargs),
        system_prompt=system_prompt,
    )
    if system_prompt and not used.chat:
        raise ValueError(
            f"data.system_prompt: the prompt template {template.name!r} is no chat and has no place for it; "
            "take chat or chat_boxed"
        )
    if chat_kwargs:
        source = str(tokenizer.get_chat_template()) if used.chat and tokenizer.chat_template else ""
        unread = [name for name in chat_kwargs if not re.search(rf"\b{re.escape(name)}\b", source)]
        if unread:
            of = (
                f"the chat template of {_name(tokenizer)}" if used.chat else f"the template {template.name!r}, no chat,"
            )
            notes.append(f"WARNING: data.chat_template_kwargs: {of} never reads {', '.join(map(repr, unread))}")
    return used, notes


def render(
    template: PromptTemplate, problem: str, tokenizer: PreTrainedTokenizerBase, context: Sequence[Message] = ()
) -> str:
    """The prompt as text. A BOS that the tokenizer adds by itself is not in it; a chat template's tokens are.

    context: what the problem's chat holds before its question; only a chat has a place for it.

    Raises ValueError for a chat template that the tokenizer lacks, that raises, or that leaves out the problem or the
    system prompt.
    """
    question = template.text.replace(PLACEHOLDER, problem)
    if not template.chat:
        return question
    if not tokenizer.chat_template:
        raise ValueError(
            f"the prompt template {template.name!r} needs a chat template, which the tokenizer of "
            f"{_name(tokenizer)} lacks; use 'boxed'"
        )
    before = template.context(context)
    text = render_chat([*map(_message, before), user(question)], tokenizer, template.chat_kwargs)
    if not _holds(text, problem):
        raise ValueError(
            f"the chat template of {_name(tokenizer)} leaves out the problem {_short(problem)}, or alters it: "
            f"its prompt is {_short(text)}; {_WAY_OUT}"
        )
    for system in (said for role, said in before if role in _SYSTEM):
        if not _holds(text, system):
            raise ValueError(
                f"the chat template of {_name(tokenizer)} leaves out the system prompt {_short(system)}; "
                "--data.system_prompt '' leaves out all of them"
            )
    return text


def _holds(text: str, said: str) -> bool:
    # Templates trim, and some set line breaks of their own.
    return "".join(said.split()) in "".join(text.split())


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


def markers(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokens that are whole whatever stands around them."""
    return {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}


def user(content: str) -> dict[str, str]:
    """A message of the user's, as chat templates take it."""
    return {"role": "user", "content": content}


def _message(message: Message) -> dict[str, str]:
    role, content = message
    return {"role": role, "content": content}


def render_chat(
    messages: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    kwargs: Mapping[str, Any] = {},
    *,
    add_generation_prompt: bool = True,
) -> str:
    """What the tokenizer's chat template makes of `messages` and these `kwargs`, on any day the same.

    Raises ValueError, one line, on whatever the template raises.
    """
    try:
        source: str = tokenizer.get_chat_template()
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=_pinned_day() + source if STRFTIME_NOW in source else source,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **{"date_string": CHAT_DATE, **kwargs},
        )
    # A template is a program that came with the model: it may raise anything.
    except Exception as error:
        system = any(message["role"] in _SYSTEM for message in messages)
        without = "leave out the system prompts with --data.system_prompt '', " if system else ""
        raise ValueError(
            f"the chat template of {_name(tokenizer)} raises {type(error).__name__}: {one_line(error)}; "
            f"{without}{_WAY_OUT}"
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


_SYSTEM = ("system", "developer")
_SHOWN = 60
_WAY_OUT = "use the prompt template 'boxed', or mend the model's chat template"


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or "this model"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
