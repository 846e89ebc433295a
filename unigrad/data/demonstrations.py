"""The token ids of a demonstration τ*, as the model would have sampled them after its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_demonstration(solution: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of `solution` alone, ended by the tokenizer's EOS exactly once: the completion that follows a prompt.

    The model sees prompt ids + these ids. The joined text is never tokenised: its ids could differ across the border.
    The EOS is the token that ends a rollout; an instruct model's tokenizer names its end-of-turn token there.

    Raises ValueError where the tokenizer has no EOS: such a demonstration would never teach the model to stop.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError(f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no EOS token")
    ids: list[int] = tokenizer(solution, add_special_tokens=False).input_ids
    while ids and ids[-1] == end:
        ids.pop()
    return [*ids, end]
