"""The rows that are being decoded, as tensors: what each has sampled so far, and when it ends.

Shapes: R rows that fit, B active ones, D of them that draw a token, T tokens of the longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unigrad.rollout.engine import Completion
from unigrad.rollout.row_cache import RowCache
from unigrad.rollout.rows import Row, StopRules
from unigrad.rollout.sampler import trajectory_generator


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
        """Add rows behind the active ones."""
        for r, row in enumerate(rows, len(self.rows)):
            self._room_R[r] = row.room
            self._count_R[r] = 0
            self._position_R[r] = len(row.prompt.token_ids) - 1
            self._last_R[r] = row.prompt.token_ids[-1]
            # All of a row's random numbers at once are the same as one for each token in turn.
            uniforms_T = trajectory_generator(seed, row.prompt.key, row.index).random(row.room)
            self._uniforms_RT[r, : row.room] = torch.from_numpy(uniforms_T)
        self.rows += rows

    @property
    def last_ids_B(self) -> Tensor:
        """The token that each row feeds next."""
        return self._last_R[: len(self)]

    @property
    def positions_B(self) -> Tensor:
        """Where it stands."""
        return self._position_R[: len(self)]

    @property
    def everyone_B(self) -> Tensor:
        """The places of all active rows."""
        return self._index_R[: len(self)]

    def uniforms(self, rows_D: Tensor) -> Tensor:
        """The random numbers that draw the next token of these rows. f64[D]."""
        return self._uniforms_RT[rows_D, self._count_R[rows_D]]

    def append(self, rows_D: Tensor, ids_D: Tensor, numbers_D3: Tensor) -> dict[int, Completion]:
        """Take the next token of these rows with its log-prob, entropy and cut mass; the completions of rows that it
        ends, by their places."""
        places = rows_D, self._count_R[rows_D]
        self._ids_RT[places] = ids_D
        self._numbers_RT3[places] = numbers_D3
        self._last_R[rows_D] = ids_D
        self._position_R[rows_D] += 1
        self._count_R[rows_D] += 1
        counts_D = self._count_R[rows_D]
        ended_D = stopped_D = self._stops.by_token(ids_D)
        if self._stops.strings:
            stopped_D = ended_D | self._stops.by_string(self._ids_RT[rows_D], counts_D)
        finished_D = stopped_D | (counts_D == self._room_R[rows_D])
        return {
            int(rows_D[d]): self._completion(int(rows_D[d]), ended=bool(ended_D[d]), stopped=bool(stopped_D[d]))
            for d in finished_D.nonzero()[:, 0].tolist()
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
