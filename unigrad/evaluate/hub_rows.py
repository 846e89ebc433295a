"""Hub data sets whose columns are not a problem and its answer: options, or several values, in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unigrad.data.options import LETTERS, in_hash_order


def arc_problem(row: Mapping[str, Any]) -> tuple[str, str]:
    """Problem and answer of a row of allenai/ai2_arc. Some rows label their options 1 to 4: all get letters."""
    labels, texts = row["choices"]["label"], row["choices"]["text"]
    return lettered(row["question"], texts), LETTERS[labels.index(row["answerKey"])]


def gpqa_problem(row: Mapping[str, Any]) -> tuple[str, str]:
    """Problem and answer of a row of Idavidrein/gpqa, whose right option always comes first: ordered by their hash."""
    right = row["Correct Answer"].strip()
    options = [right, *(row[f"Incorrect Answer {number}"].strip() for number in (1, 2, 3))]
    question = row["Question"].strip()
    options = in_hash_order(question, options)
    return lettered(question, options), LETTERS[options.index(right)]


def olympiad_problem(row: Mapping[str, Any]) -> tuple[str, str]:
    """Problem and answer of a row of math-ai/olympiadbench, whose answer is a list of values between dollar signs."""
    return row["question"], ", ".join(value.replace("$", "") for value in row["final_answer"])


def lettered(question: str, options: Sequence[str]) -> str:
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, "", *lines])
