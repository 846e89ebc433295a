"""Which column of a problem set became what, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unigrad.types import Problem

_NAMED = {"problem": "problem", "answer": "answer", "solution": "demonstration", "id": "id", "level": "level"}
_MOST = 12
"""Other columns that are named."""


def columns_line(problems: Sequence[Problem]) -> str | None:
    """A line that names the columns of these problems; None where they were read from none, as the embedded ones."""
    if not any(problem.read_from for problem in problems):
        return None
    parts = [part for field, name in _NAMED.items() if (part := _part(problems, field, name))]
    contexts = sum(bool(problem.context) for problem in problems)
    if contexts:
        parts.append(f"a system prompt or earlier turns in {_of(contexts, problems)}")
    said = {column.partition(".")[0] for problem in problems for column in problem.read_from.values()}
    others = sorted({column for problem in problems for column in problem.columns} - said)
    if others:
        more = ", …" if len(others) > _MOST else ""
        parts.append(f"others, for reward functions: {', '.join(f'`{each}`' for each in others[:_MOST])}{more}")
    return "; ".join(parts)


def _part(problems: Sequence[Problem], field: str, name: str) -> str:
    """Empty where it was read from no column, unless that is worth a word."""
    counts = Counter(column for problem in problems if (column := problem.read_from.get(field)) is not None)
    if not counts:
        return {"solution": "no demonstrations", "answer": "no answers"}.get(field, "")
    whole = len(counts) == 1 and counts.total() == len(problems)
    columns = [
        f"`{column}`" + ("" if whole else f" ({_of(count, problems)})") for column, count in counts.most_common()
    ]
    return f"{name} ← {', '.join(columns)}"


def _of(count: int, problems: Sequence[Problem]) -> str:
    return f"{count} of {len(problems)}"
