"""A seeded generator of chained arithmetic with worked solutions, and an expert who sometimes slips.

A problem of level k gives a number and asks what k times the same operation make of it: "740+8 3?". Its worked solution
counts the steps down, writes out each, and ends in the answer: "3:740+8=748;2:748+8=756;1:756+8=764;\\boxed{764}".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from unigrad.types import Problem

LEVELS = (1, 2, 3, 4, 5)
EXPERT_ERROR_RATE = 0.2
SMALLEST, LARGEST = 100, 999
"""Every start, step's result and answer lies between these, in slipped solutions too."""

_OPERANDS = range(2, 10)
_SLIPS = (-10, -1, 1, 10)
_EVAL_SHARE = 8
_MAX_TRIES = 20_000

Split = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Chain:
    """A number and how often which number is added to it (a negative one is taken away)."""

    start: int
    addend: int
    level: int

    @property
    def text(self) -> str:
        return f"{self.start}{self.addend:+} {self.level}?"

    @property
    def split(self) -> Split:
        """A function of the text alone, so that no seed can put one problem on both sides."""
        return "eval" if _digest(self.text)[0] % _EVAL_SHARE == 0 else "train"

    def values(self, slip: tuple[int, int] | None = None) -> tuple[int, ...]:
        """The results of the steps. `slip` = (index of a step, its error): later steps go on from the wrong result."""
        value, results = self.start, []
        for index in range(self.level):
            value += self.addend
            if slip is not None and slip[0] == index:
                value += slip[1]
            results.append(value)
        return tuple(results)

    def solution(self, slip: tuple[int, int] | None = None, steps: int | None = None) -> str:
        """The worked solution; with `steps`, of so many steps at most, and the answer whatever it has come to."""
        results = self.values(slip)[:steps]
        lines = [
            f"{self.level - index}:{before}{self.addend:+}={result}"
            for index, (before, result) in enumerate(zip((self.start, *results), results, strict=False))
        ]
        return ";".join([*lines, boxed(results[-1])])

    def draw_slip(self, rng: Random, steps: int | None = None) -> tuple[int, int]:
        """A slip within the first `steps` that leaves every result in range. The answer is then wrong."""
        slips = [
            (index, error)
            for index in range(self.level)[:steps]
            for error in _SLIPS
            if _in_range(self.values((index, error)))
        ]
        return rng.choice(slips)


def boxed(answer: int) -> str:
    return f"\\boxed{{{answer}}}"


def draw_chain(level: int, rng: Random) -> Chain:
    """A chain of `level` steps, all of them in range."""
    while True:
        addend = rng.choice(_OPERANDS) * rng.choice((1, -1))
        chain = Chain(rng.randint(SMALLEST, LARGEST), addend, level)
        if _in_range(chain.values()):
            return chain


def tiny_problems(
    split: Split,
    count: int,
    seed: int,
    expert_error_rate: float = EXPERT_ERROR_RATE,
    levels: Sequence[int] = LEVELS,
) -> list[Problem]:
    """`count` distinct problems, the levels in turn, each with the expert's demonstration as its solution.

    expert_error_rate: the share of the demonstrations, to the nearest whole one, that hold one wrong step and so a
        wrong answer. `Problem.answer` is right all the same.
    Train and eval never share a problem, whatever their seeds.

    Raises ValueError on an unknown split, a negative count, a rate outside [0, 1], a level outside 1..5, or a count
    beyond what a level can give.
    """
    if split not in ("train", "eval"):
        raise ValueError(f"unknown split {split!r} of the tiny problems: choose train or eval")
    if count < 0:
        raise ValueError(f"count of tiny problems is {count}: choose 0 or more")
    if not 0 <= expert_error_rate <= 1:
        raise ValueError(f"expert_error_rate is {expert_error_rate}: choose a share from 0 to 1")
    if not levels or not set(levels) <= set(LEVELS):
        raise ValueError(f"levels of the tiny problems are {list(levels)}: choose some of {list(LEVELS)}")
    rng = Random(f"unigrad tiny problems {split} {seed}")
    chains: dict[str, Chain] = {}
    for index in range(count):
        chain = _draw_new(levels[index % len(levels)], split, chains, rng)
        chains[chain.text] = chain
    slipped = set(rng.sample(range(count), round(expert_error_rate * count)))
    return [
        Problem(
            id=f"tiny-{_digest(text).hex()}",
            problem=text,
            answer=str(chain.values()[-1]),
            solution=chain.solution(chain.draw_slip(rng) if index in slipped else None),
            source="tiny",
            level=chain.level,
        )
        for index, (text, chain) in enumerate(chains.items())
    ]


def _draw_new(level: int, split: Split, known: Mapping[str, Chain], rng: Random) -> Chain:
    for _ in range(_MAX_TRIES):
        chain = draw_chain(level, rng)
        if chain.split == split and chain.text not in known:
            return chain
    raise ValueError(f"level {level} has no more distinct {split} problems after {len(known)}: choose a smaller count")


def _in_range(values: Sequence[int]) -> bool:
    return all(SMALLEST <= value <= LARGEST for value in values)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
