"""Completions to be made: their room, and what ends them before it runs out.

Shapes: B rows, T tokens of the longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unigrad.rollout.engine import Prompt
from unigrad.rollout.sampling import Sampling

# Tokens decoded before a stop string: decoders treat the first token of a text, and halves of a character, apart.
_WINDOW_MARGIN = 4


@dataclass(frozen=True, slots=True)
class Row:
    """A completion to be made: sample `index` of its prompt, of `room` tokens at most."""

    prompt: Prompt
    index: int
    room: int

    @property
    def length(self) -> int:
        """Positions that it may take."""
        return len(self.prompt.token_ids) + self.room


@dataclass(frozen=True, slots=True)
class StopRules:
    """What ends a row before its room does: one of the tokens, or one of the strings in its decoded text."""

    token_ids: Tensor
    strings: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> StopRules:
        """End tokens are those of the model's generation config, of the tokenizer and of the `Sampling`."""
        configured = model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        ends = {token for token in (*ids, tokenizer.eos_token_id, *sampling.stop_token_ids) if token is not None}
        return cls(torch.tensor(sorted(ends), dtype=torch.int64), sampling.stop, tokenizer)

    def by_token(self, ids_B: Tensor) -> Tensor:
        """b[B]."""
        return (ids_B[:, None] == self.token_ids).any(-1)

    def by_string(self, ids_BT: Tensor, counts_B: Tensor) -> Tensor:
        """Whether the first `counts_B` ids of a row hold a string that they did not hold before the last. b[B]."""
        # A token decodes to one byte at least, so the last token can complete a string within this window only.
        window = max(len(text.encode()) for text in self.strings) + _WINDOW_MARGIN
        stopped = []
        for b, count in enumerate(counts_B.tolist()):
            ids = ids_BT[b, max(0, count - window) : count].tolist()
            text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            stopped.append(any(string in text for string in self.strings))
        return torch.tensor(stopped)


def rows_of(prompts: Sequence[Prompt], sampling: Sampling, positions: int) -> list[Row]:
    """A row for each completion, in order. positions: tokens that the model takes.

    Raises:
        ValueError: a key that comes twice, or a prompt that is empty or leaves no room in the model's positions.
    """
    keys: set[str] = set()
    rows = []
    for prompt in prompts:
        if prompt.key in keys:
            raise ValueError(f"two prompts have the key {prompt.key!r}: keys fix the random numbers and must differ")
        keys.add(prompt.key)
        length = len(prompt.token_ids)
        if not 0 < length < positions:
            raise ValueError(f"prompt {prompt.key!r} has {length} tokens: the model takes 1 to {positions - 1}")
        room = min(sampling.max_completion_length, positions - length)
        rows += [Row(prompt, index, room) for index in range(sampling.num_generations)]
    return rows
