"""Completions in the making, one by one: their room, their random numbers, and what ends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unigrad.rollout.engine import Completion, Prompt
from unigrad.rollout.sampler import trajectory_generator
from unigrad.rollout.sampling import Sampling

# Tokens decoded before a stop string: decoders treat the first token of a text, and halves of a character, apart.
_WINDOW_MARGIN = 4


@dataclass(slots=True, kw_only=True)
class Row:
    """A completion in the making. room: tokens that it may have at most."""

    prompt: Prompt
    index: int
    room: int
    generator: np.random.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    cut_masses: list[float] = field(default_factory=list)
    ended: bool = False
    stopped: bool = False
    """By an end token or a stop string."""

    @property
    def finished(self) -> bool:
        return self.stopped or len(self.token_ids) == self.room

    @property
    def longest(self) -> int:
        """Tokens that prompt and completion may have together."""
        return len(self.prompt.token_ids) + self.room

    def completion(self, tokenizer: PreTrainedTokenizerBase) -> Completion:
        written = self.token_ids[:-1] if self.ended else self.token_ids
        return Completion(
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            entropies=tuple(self.entropies),
            truncated=not self.stopped,
            ended=self.ended,
            text=str(tokenizer.decode(written, skip_special_tokens=False)),
            cut_masses=tuple(self.cut_masses),
        )


@dataclass(frozen=True, slots=True)
class StopRules:
    """What ends a row: an end token, or the first token that completes a stop string in the decoded text (special
    tokens included)."""

    end_ids: frozenset[int]
    strings: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> StopRules:
        """End tokens are those of the model's generation config, of the tokenizer and of the `Sampling`."""
        configured = model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        ends = (token for token in (*ids, tokenizer.eos_token_id, *sampling.stop_token_ids) if token is not None)
        return cls(frozenset(ends), sampling.stop, tokenizer)

    def apply(self, row: Row) -> None:
        """Say of the row whether its last token has ended or stopped it."""
        row.ended = row.token_ids[-1] in self.end_ids
        row.stopped = row.ended or self._completes_a_string(row)

    def _completes_a_string(self, row: Row) -> bool:
        if not self.strings:
            return False
        # A token decodes to one byte at least, so the last token can complete a string within this window only.
        window = max(len(text.encode()) for text in self.strings) + _WINDOW_MARGIN
        text = self.tokenizer.decode(row.token_ids[-window:], clean_up_tokenization_spaces=False)
        return any(string in text for string in self.strings)


def rows_of(prompts: Sequence[Prompt], sampling: Sampling, seed: int, positions: int) -> list[Row]:
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
        rows += [
            Row(
                prompt=prompt,
                index=index,
                room=min(sampling.max_completion_length, positions - length),
                generator=trajectory_generator(seed, prompt.key, index),
            )
            for index in range(sampling.num_generations)
        ]
    return rows
