"""The order of the questions: a pure function of seed and step, so that a resumed run goes on with the same ones."""

from __future__ import annotations

import numpy as np


def epoch_order(num_problems: int, seed: int, epoch: int) -> list[int]:
    """A permutation of range(num_problems) for each (seed, epoch), both counted from 0.

    It sorts the raw words of Philox, a stream that numpy keeps over versions and platforms (those of its
    `permutation` may change).
    """
    words = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(num_problems)
    order: list[int] = np.argsort(words, kind="stable").tolist()
    return order


def questions_at_step(step: int, questions_per_step: int, num_problems: int, seed: int) -> list[int]:
    """The indices of the `questions_per_step` problems of `step` (from 1).

    The epochs' orders, one after another, are cut into steps: a step may straddle epochs, or hold several.
    Raises ValueError where any of the three counts is less than 1.
    """
    if min(step, questions_per_step, num_problems) < 1:
        raise ValueError(
            f"step {step}, {questions_per_step} questions a step, {num_problems} problems: each at least 1"
        )
    start = (step - 1) * questions_per_step
    first_epoch, offset = divmod(start, num_problems)
    last_epoch = (start + questions_per_step - 1) // num_problems
    stream = [index for epoch in range(first_epoch, last_epoch + 1) for index in epoch_order(num_problems, seed, epoch)]
    return stream[offset : offset + questions_per_step]
