"""The rollouts that go into the page: all of them, or as many as fit, spread over steps and questions."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any, TypeVar

from unigrad.options import SOLVED_AT, least_solved
from unigrad.report.grid import spread
from unigrad.runs.rollouts import Question, RolloutLine, questions

T = TypeVar("T")

SHOWN = ("sample", "verdict", "extracted", "reward", "truncated", "trained", "tokens")
"""Of each line; its text, or its tokens, comes to it."""
PROBES = 3
"""Steps that are compressed to learn how much a run's rollouts take."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step's rollouts as text for the page: base64 of gzip of JSON. title: of the benchmark, in an evaluation, whose
    number `step` is then."""

    step: int
    payload: str
    questions: int
    of: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """The steps that fit, in order. of: how many steps have rollouts. is_evaluation: benchmarks stand for steps."""

    steps: list[Step]
    of: int
    is_evaluation: bool = False

    @property
    def is_whole(self) -> bool:
        return len(self.steps) == self.of and all(step.questions == step.of for step in self.steps)


def sample(files: Mapping[int, Path], budget: int, solved_at: float = SOLVED_AT) -> Sample:
    """The rollouts of these steps' files in at most `budget` bytes of page; `solved_at` is the run's.

    Where not all fit, about the same share of the steps and of each step's questions is left out: the steps evenly over
    the run, the questions evenly from the unsolved to the solved.
    """
    share = min(1.0, budget / needed) if (needed := _needed(files)) else 1.0
    # A share that just falls short is tried whole: the estimate is no better than that.
    of_questions = 1.0 if share > 0.9 else sqrt(share)
    steps: list[Step] = []
    left = budget
    for step in _evenly(list(files)):
        found = _pack(step, list(questions(files[step])), of_questions, solved_at)
        if len(found.payload) > left:
            break
        left -= len(found.payload)
        steps.append(found)
    return Sample(sorted(steps, key=lambda each: each.step), len(files))


def _needed(files: Mapping[int, Path]) -> float:
    """Bytes that all rollouts would take, from a few steps whose size after packing is known."""
    probes = [list(files)[index] for index in spread(len(files), PROBES)]
    raw = sum(files[step].stat().st_size for step in probes)
    if not raw:
        return 0.0
    taken = sum(len(_pack(step, list(questions(files[step])), 1.0, SOLVED_AT).payload) for step in probes)
    return taken / raw * sum(path.stat().st_size for path in files.values())


def _evenly(steps: Sequence[int]) -> list[int]:
    """The steps in an order whose every beginning is spread over all of them: the last, the first, the middle, …"""
    bits = max(1, len(steps).bit_length())
    halving = (int(f"{count:0{bits}b}"[::-1], 2) for count in range(2**bits))
    return [*steps[-1:], *(steps[place] for place in halving if place < len(steps) - 1)]


def _pack(step: int, every: Sequence[Question], share: float, solved_at: float) -> Step:
    chosen = varied(every, ceil(share * len(every)), lambda question: question.solved)
    return Step(step, packed(step, [_question(each, solved_at) for each in chosen]), len(chosen), len(every))


def packed(step: int, questions: Sequence[Mapping[str, Any]]) -> str:
    """As text for the page; its script and the questions' keys belong together."""
    text = json.dumps({"step": step, "questions": questions}, ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def varied(every: Sequence[T], count: int, solved: Callable[[T], int]) -> list[T]:
    """So many of them, in their order, evenly from the least solved to the most."""
    by_solved = sorted(range(len(every)), key=lambda index: solved(every[index]))
    return [every[index] for index in sorted(by_solved[place] for place in spread(len(every), count))]


def _question(question: Question, solved_at: float) -> dict[str, Any]:
    line = question.lines[0]
    return {
        "id": question.id,
        "level": question.level,
        "problem": line.problem,
        "prompt": line.prompt,
        "answer": line.answer,
        "gate": asdict(line.gate),
        "rollouts": len(question.rollouts),
        "solved": question.solved,
        "lines": [_line(each, solved_at) for each in question.lines],
    }


def _line(line: RolloutLine, solved_at: float) -> dict[str, Any]:
    """What the page shows; log-probs in hundredths of a nat, and the text once, whole or in pieces."""
    shown = {**{name: getattr(line, name) for name in SHOWN}, "right": line.reward >= least_solved(solved_at)}
    if line.pieces is None or line.logprobs is None or len(line.pieces) != len(line.logprobs):
        return {**shown, "text": line.completion}
    return {**shown, "pieces": line.pieces, "logprobs": [round(100 * value) for value in line.logprobs]}
