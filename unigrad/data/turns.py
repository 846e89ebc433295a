"""What a template writes around a completion: the text that the completion goes on from, and the token that ends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from unigrad.data.templates import BRACKETS, PLACEHOLDER, PromptTemplate, markers, render, render_chat, user
from unigrad.errors import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Words that no template holds and none alters, to be found again in what it renders.
_QUESTION, _ANSWER = "wombatquestion", "wombatanswer"
_THOUGHTS = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning")},
    **{"[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|begin_of_thought|>": "<|end_of_thought|>"},
}
"""What begins a thought, with what ends it."""
_STARTS = re.compile(rf"(?:^|\n)[^\S\n]*(?=\S)|(?=[{re.escape(BRACKETS)}])")


@dataclass(frozen=True, slots=True)
class Turn:
    """The model's turn after a prompt of one template.

    opening: what every prompt holds behind its problem.
    end_id: the token that ends a completion, a chat template's end of turn, else the tokenizer's EOS; None where there
        is neither.
    ends: the text of that token, and of the EOS.
    note: what is unusual about the end, one line; None where nothing is.
    """

    opening: str
    end_id: int | None
    ends: tuple[str, ...]
    note: str | None = None

    def completion(self, solution: str) -> str:
        """`solution` as the model would write it: without what the prompt has opened already, such as `<think>`, and
        without the token that ends it. What is one already comes back as it is."""
        text = solution
        repeated = _opened(self.opening)
        if repeated is not None and (match := repeated.match(text)):
            space = self.opening[len(self.opening.rstrip()) :]
            text = text[match.end() :]
            text = text[len(space) :] if text.startswith(space) else text.lstrip()
        while end := next((end for end in self.ends if text.rstrip().endswith(end)), None):
            text = text.rstrip().removesuffix(end)
        return text

    def second_thought(self, completion: str) -> str | None:
        """The marker with which the completion begins a thought, where every prompt ends with one that is over."""
        closed = (begin for begin, end in _THOUGHTS.items() if self.opening.rstrip().endswith(end))
        return next(filter(completion.lstrip().startswith, closed), None)


def turn_of(template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, named: str | None = None) -> Turn:
    """The turn that follows `template`'s prompts. named: the token that ends it, in place of the template's own.

    Raises ValueError as `render` does, and on a name that is no token.
    """
    if named is not None:
        if named not in tokenizer.get_vocab():
            close = nearest(named, sorted({*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}))
            nearby = f"; the nearest is {close!r}" if close else ""
            raise ValueError(f"data.end_of_turn: {named!r} is no token of this model{nearby}")
        own = turn_of(template, tokenizer)
        ends = tuple(dict.fromkeys((named, *own.ends)))
        return Turn(own.opening, tokenizer.convert_tokens_to_ids(named), ends)
    eos = tokenizer.eos_token
    if not template.chat:
        return Turn(template.text.rpartition(PLACEHOLDER)[2], tokenizer.eos_token_id, (eos,) if eos else ())
    opening = render(template, _QUESTION, tokenizer).rpartition(_QUESTION)[2]
    end, note = _end_of_turn(tokenizer, template.chat_kwargs)
    ends = tuple(text for text in dict.fromkeys((end, eos)) if text)
    return Turn(opening, tokenizer.convert_tokens_to_ids(ends[0]) if ends else None, ends, note)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase, chat_kwargs: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The token that the chat template writes behind an answer, None where it is the EOS; and the turn's note."""
    by_eos = f"completions end with the tokenizer's EOS, {tokenizer.eos_token!r}"
    asked, answered = user(_QUESTION), {"role": "assistant", "content": _ANSWER}
    try:
        closing = _behind_the_answer(
            render_chat([asked, answered], tokenizer, chat_kwargs, add_generation_prompt=False)
        )
        # Where nothing stands behind the last answer (GLM-4), the next message's token ends it.
        following = closing or _behind_the_answer(
            render_chat([asked, answered, asked], tokenizer, chat_kwargs, add_generation_prompt=False)
        )
    except ValueError as error:
        return None, f"the chat template shows no end of a turn: {error}; {by_eos}"
    end = _first_token(following, tokenizer)
    if end is None or end == tokenizer.bos_token:
        return None, f"the chat template ends a turn with {closing!r}, which is no token: {by_eos}" if closing else None
    if end == tokenizer.eos_token:
        return end, None
    return end, (
        f"the chat template ends a turn with {end!r}, the tokenizer's EOS is {tokenizer.eos_token!r}: "
        "demonstrations end with the former, rollouts stop at either"
    )


def _behind_the_answer(text: str) -> str:
    _before, answer, behind = text.rpartition(_ANSWER)
    if not answer:
        raise ValueError("it leaves out the assistant's words")
    return behind.strip()


def _first_token(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The marker that `text` begins with, where it is one token; None where `text` begins with anything else."""
    if found := max(filter(text.startswith, markers(tokenizer)), key=len, default=None):
        return found
    word = text.split(maxsplit=1)[0] if text and text[0] in BRACKETS else None
    # A vocabulary may hold a marker without naming it as special.
    return word if word is not None and word in tokenizer.get_vocab() else None


@cache
def _opened(opening: str) -> re.Pattern[str] | None:
    """Matches a text's beginning that repeats the end of `opening`: whole lines, or from a marker on.

    Spaces and line breaks may differ. None where there is nothing to repeat.
    """
    opening = opening.rstrip()
    ends = (opening[match.end() :] for match in _STARTS.finditer(opening))
    # The longest first; a full stop alone says nothing.
    patterns = [r"\s*".join(map(re.escape, end.split())) for end in ends if re.search(r"\w", end)]
    # Not within a word: "Answer" is not repeated by "Answers".
    return re.compile(rf"(?:\s*(?:{'|'.join(patterns)})(?:(?<!\w)|(?!\w)))+") if patterns else None
