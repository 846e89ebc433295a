"""The rows of an update: which tokens of which trajectory train, under which algorithm, and how strongly.

Shapes: S trajectories, M completion tokens of all of them, R rows, N tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from unigrad.batch.flat import moved, owners, ranges, starts
from unigrad.batch.sequences import Sequences
from unigrad.estimator import Algorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A trajectory that trains.

    sequence: its index. question: rows of one question have the same number. coefficient: the term's and the gate's
    weight over the term's denominator, so that the loss of any subset of rows is −Σ c_i Σ_t sg(w_it)·log π_it: no
    split of the rows can change the gradient. advantage: one number, or one for each token that trains. returns: what
    the value head is to predict at each of them, where there is one. mask: which of the completion's tokens train;
    None: all.
    """

    sequence: int
    question: int
    algorithm: Algorithm
    coefficient: float
    advantage: float | Tensor
    returns: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One update. A trajectory that several terms train on has a row for each, and one place among `sequences`.

    sequence_R, question_R: see `Row`. algorithm_R: index into `algorithms`. length_R: tokens of each row. offset_N: the
    token's position in its completion. returns_N: NaN where there is nothing to predict; None where no row has any.
    """

    sequences: Sequences
    algorithms: tuple[Algorithm, ...]
    sequence_R: Tensor
    question_R: Tensor
    algorithm_R: Tensor
    coefficient_R: Tensor
    length_R: Tensor
    offset_N: Tensor
    advantage_N: Tensor
    returns_N: Tensor | None

    @classmethod
    def of(cls, sequences: Sequences, rows: Sequence[Row]) -> Self:
        """The rows of these trajectories. Raises ValueError where a mask does not fit its completion."""
        completions = sequences.completion_S.tolist()
        offsets = [_offsets(row, completions[row.sequence]) for row in rows]
        lengths = [len(each) for each in offsets]
        algorithms = tuple(dict.fromkeys(row.algorithm for row in rows))
        number = {algorithm: index for index, algorithm in enumerate(algorithms)}
        has_returns = any(row.returns is not None for row in rows)
        return cls(
            sequences=sequences,
            algorithms=algorithms,
            sequence_R=torch.tensor([row.sequence for row in rows], dtype=torch.int64),
            question_R=torch.tensor([row.question for row in rows], dtype=torch.int64),
            algorithm_R=torch.tensor([number[row.algorithm] for row in rows], dtype=torch.int64),
            coefficient_R=torch.tensor([row.coefficient for row in rows], dtype=torch.float64),
            length_R=torch.tensor(lengths, dtype=torch.int64),
            offset_N=torch.cat([torch.empty(0, dtype=torch.int64), *offsets]),
            advantage_N=_by_token([row.advantage for row in rows], lengths),
            returns_N=_by_token([torch.nan if row.returns is None else row.returns for row in rows], lengths)
            if has_returns
            else None,
        )

    def __len__(self) -> int:
        return len(self.sequence_R)

    @cached_property
    def row_N(self) -> Tensor:
        """The row of each token."""
        return owners(self.length_R)

    @cached_property
    def token_N(self) -> Tensor:
        """The position of each token among the completion tokens of `sequences`."""
        return starts(self.sequences.completion_S)[self.sequence_R][self.row_N] + self.offset_N

    @property
    def trained_sequences(self) -> list[int]:
        """The trajectories that a row trains on, in their order."""
        return sorted(set(self.sequence_R.tolist()))

    def select(self, indices_P: Tensor) -> tuple[Self, Tensor]:
        """The rows of the trajectories `indices_P`, and the positions of their tokens among those of all rows."""
        place_S = torch.full((len(self.sequences),), -1, dtype=torch.int64)
        place_S[indices_P] = torch.arange(len(indices_P))
        chosen_R = (place_S[self.sequence_R] >= 0).nonzero()[:, 0]
        tokens_N = ranges(starts(self.length_R)[chosen_R], self.length_R[chosen_R])
        selected = replace(
            self,
            sequences=self.sequences.take(indices_P),
            sequence_R=place_S[self.sequence_R[chosen_R]],
            question_R=self.question_R[chosen_R],
            algorithm_R=self.algorithm_R[chosen_R],
            coefficient_R=self.coefficient_R[chosen_R],
            length_R=self.length_R[chosen_R],
            offset_N=self.offset_N[tokens_N],
            advantage_N=self.advantage_N[tokens_N],
            returns_N=None if self.returns_N is None else self.returns_N[tokens_N],
        )
        return selected, tokens_N

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same, its floating-point numbers as `dtype`."""
        return moved(self, device, dtype)


def _offsets(row: Row, completion: int) -> Tensor:
    """The positions in the completion of the tokens that train."""
    if row.mask is None:
        return torch.arange(completion)
    if row.mask.shape != (completion,):
        raise ValueError(f"a mask of {[*row.mask.shape]} on a completion of {completion} tokens")
    return row.mask.nonzero()[:, 0]


def _by_token(values: Sequence[float | Tensor], lengths: Sequence[int]) -> Tensor:
    """A number a row, or one a token of the row, as one a token. f64[N]."""
    parts = [
        each.double() if isinstance(each, Tensor) else torch.full((length,), each, dtype=torch.float64)
        for each, length in zip(values, lengths, strict=True)
    ]
    return torch.cat([torch.empty(0, dtype=torch.float64), *parts])
