"""The order of the questions: a pure function of seed and step, so that a resumed run goes on with the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Share:
    """A problem set's part of a mix: how many problems it has, and how many questions of an epoch are drawn from it."""

    problems: int
    an_epoch: int


def share(problems: int, weight: float = 1.0) -> Share:
    """A set whose problems are each met `weight` times an epoch: 2 is twice, 0.5 in every other epoch."""
    return Share(problems, max(1, round(weight * problems)) if problems else 0)


def epoch_order(num_problems: int, seed: int, epoch: int) -> list[int]:
    """A permutation of range(num_problems) for each (seed, epoch), both counted from 0.

    It sorts the raw words of Philox, a stream that numpy keeps over versions and platforms (those of its
    `permutation` may change).
    """
    return _permutation(num_problems, seed, epoch)


def mixed_epoch(shares: Sequence[Share], seed: int, epoch: int) -> list[int]:
    """The questions of an epoch of a mix, shuffled, as positions in the sets laid end to end.

    Each set that is not met exactly once an epoch goes through permutations of its own, one after another: whatever its
    weight, none of its problems comes again before all the others have come.
    """
    if all(each.an_epoch == each.problems for each in shares):
        return epoch_order(sum(each.problems for each in shares), seed, epoch)
    pool: list[int] = []
    offset = 0
    for place, each in enumerate(shares):
        if each.an_epoch == each.problems:
            pool += range(offset, offset + each.problems)
        else:
            drawn = range(epoch * each.an_epoch, (epoch + 1) * each.an_epoch)
            rounds = range(drawn.start // each.problems, (drawn.stop - 1) // each.problems + 1)
            orders = {number: _permutation(each.problems, seed, number, place) for number in rounds}
            pool += [offset + orders[position // each.problems][position % each.problems] for position in drawn]
        offset += each.problems
    return [pool[index] for index in epoch_order(len(pool), seed, epoch)]


def questions_at_step(step: int, questions_per_step: int, shares: Sequence[Share], seed: int) -> list[int]:
    """The positions of the `questions_per_step` problems of `step` (from 1) in the sets laid end to end.

    The epochs' orders, one after another, are cut into steps: a step may straddle epochs, or hold several.
    Raises ValueError where any of the three counts is less than 1.
    """
    size = sum(each.an_epoch for each in shares)
    if min(step, questions_per_step, size) < 1:
        raise ValueError(f"step {step}, {questions_per_step} questions a step, {size} problems: each at least 1")
    start = (step - 1) * questions_per_step
    first_epoch, offset = divmod(start, size)
    last_epoch = (start + questions_per_step - 1) // size
    stream = [index for epoch in range(first_epoch, last_epoch + 1) for index in mixed_epoch(shares, seed, epoch)]
    return stream[offset : offset + questions_per_step]


def _permutation(size: int, *seeds: int) -> list[int]:
    words = np.random.Philox(np.random.SeedSequence(list(seeds))).random_raw(size)
    order: list[int] = np.argsort(words, kind="stable").tolist()
    return order
