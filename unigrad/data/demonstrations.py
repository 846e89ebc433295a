"""The token ids of a demonstration τ*, as the model would have sampled them after its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unigrad.data.templates import PROMPT_TEMPLATES
from unigrad.data.turns import Turn, turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_demonstration(solution: str, tokenizer: PreTrainedTokenizerBase, turn: Turn | None = None) -> list[int]:
    """The ids of `solution` alone, ended by the turn's end token exactly once: the completion that follows a prompt.

    The model sees prompt ids + these ids. The joined text is never tokenised: its ids could differ across the border.

    turn: that of the prompt's template; None: of the tokenizer's chat template, where it has one.

    Raises ValueError where the turn has no end token: such a demonstration would never teach the model to stop.
    """
    turn = turn or turn_of(PROMPT_TEMPLATES["chat" if tokenizer.chat_template else "plain"], tokenizer)
    if turn.end_id is None:
        raise ValueError(f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no EOS token")
    ids: list[int] = tokenizer(turn.completion(solution), add_special_tokens=False).input_ids
    return [*ids, turn.end_id]
