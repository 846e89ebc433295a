"""The rows that are being decoded, as tensors: what each has sampled so far, and when it ends.

Shapes: R rows that fit, B active ones, T tokens of the longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unigrad.rollout.engine import Completion, Prompt
from unigrad.rollout.row_cache import RowCache
from unigrad.rollout.sampler import trajectory_generator

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


class DecodingBatch:
    """The active rows, of which row b is row b of every tensor and of the cache. All tensors are on the CPU."""

    def __init__(self, rows: int, room: int, stops: StopRules) -> None:
        """Room for `rows` rows of `room` tokens each."""
        self.rows: list[Row] = []
        self._stops = stops
        self._index_R = torch.arange(rows)
        self._room_R = torch.zeros_like(self._index_R)
        self._count_R = torch.zeros_like(self._index_R)
        self._position_R = torch.zeros_like(self._index_R)
        self._last_R = torch.zeros_like(self._index_R)
        self._ids_RT = torch.zeros(rows, room, dtype=torch.int64)
        self._uniforms_RT = torch.zeros(rows, room, dtype=torch.float64)
        # Log-prob, entropy and cut mass of each token.
        self._numbers_RT3 = torch.zeros(rows, room, 3)
        self._tensors = (
            self._room_R, self._count_R, self._position_R, self._last_R, self._ids_RT, self._uniforms_RT,
            self._numbers_RT3,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def free(self) -> int:
        """Rows that may enter."""
        return len(self._room_R) - len(self)

    def enter(self, rows: Sequence[Row], seed: int) -> None:
        """Add rows that share a prompt, behind the active ones."""
        start, prompt = len(self.rows), rows[0].prompt
        here = slice(start, start + len(rows))
        self.rows += rows
        self._room_R[here] = rows[0].room
        self._count_R[here] = 0
        self._position_R[here] = len(prompt.token_ids) - 1
        self._last_R[here] = prompt.token_ids[-1]
        for r, row in enumerate(rows, start):
            # All of a row's random numbers at once are the same as one for each token in turn.
            uniforms_T = trajectory_generator(seed, prompt.key, row.index).random(row.room)
            self._uniforms_RT[r, : row.room] = torch.from_numpy(uniforms_T)

    @property
    def last_ids_B(self) -> Tensor:
        """The token that each row feeds next."""
        return self._last_R[: len(self)]

    @property
    def positions_B(self) -> Tensor:
        """Where it stands."""
        return self._position_R[: len(self)]

    @property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Of each row's next token."""
        return self._index_R[: len(self)], self._count_R[: len(self)]

    @property
    def uniforms_B(self) -> Tensor:
        """The random number that draws each row's next token."""
        return self._uniforms_RT[self._places]

    def append(self, ids_B: Tensor, numbers_B3: Tensor) -> dict[int, Completion]:
        """Take each row's next token with its log-prob, entropy and cut mass; the completions of rows that it ends."""
        active, places = slice(len(self)), self._places
        self._ids_RT[places] = ids_B
        self._numbers_RT3[places] = numbers_B3
        self._last_R[active] = ids_B
        self._position_R[active] += 1
        counts_B = self._count_R[active]
        counts_B += 1
        ended_B = stopped_B = self._stops.by_token(ids_B)
        if self._stops.strings:
            stopped_B = ended_B | self._stops.by_string(self._ids_RT, counts_B)
        finished_B = stopped_B | (counts_B == self._room_R[active])
        return {
            b: self._completion(b, ended=bool(ended_B[b]), stopped=bool(stopped_B[b]))
            for b in finished_B.nonzero()[:, 0].tolist()
        }

    def _completion(self, b: int, *, ended: bool, stopped: bool) -> Completion:
        count = int(self._count_R[b])
        ids: list[int] = self._ids_RT[b, :count].tolist()
        logprobs, entropies, cut_masses = (tuple(column.tolist()) for column in self._numbers_RT3[b, :count].unbind(-1))
        return Completion(
            token_ids=tuple(ids),
            logprobs=logprobs,
            entropies=entropies,
            truncated=not stopped,
            ended=ended,
            text=str(self._stops.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)),
            cut_masses=cut_masses,
        )

    def drop(self, finished: Sequence[int], cache: RowCache) -> None:
        """Let these rows go, by their places in order; the last ones that stay move into their places."""
        gone, remaining = set(finished), len(self) - len(finished)
        holes = [b for b in finished if b < remaining]
        movers = [b for b in range(remaining, len(self)) if b not in gone]
        if holes:
            cache.move(movers, holes, int(self.positions_B[movers].max()))
            for tensor_R in self._tensors:
                tensor_R[holes] = tensor_R[movers]
            for hole, mover in zip(holes, movers, strict=True):
                self.rows[hole] = self.rows[mover]
        del self.rows[remaining:]
