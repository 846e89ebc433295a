"""Problem sets: which column of a row is the problem, the answer, the demonstration, and what a bad row is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from unigrad.data.rows import Row, read_rows
from unigrad.types import AnswerKind, Problem

CONVENTIONAL_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "problem": ("problem", "question", "prompt", "input", "query", "instruction", "messages"),
    "answer": ("answer", "final_answer", "ground_truth", "gold", "label", "reward_model.ground_truth"),
    "solution": ("solution", "demonstration", "completion", "response", "output", "target", "rationale", "messages"),
    "id": ("id", "problem_id", "uid", "extra_info.index"),
    "source": ("source", "data_source", "dataset"),
    "level": ("level", "difficulty"),
    "kind": ("kind",),
}
"""For each field of a Problem the columns that may hold it: the first that the problem set has. A dot descends."""

_ABSENT = object()
_CALCULATOR_ANNOTATION = re.compile(r"<<[^<>]*>>")
_NUMBER_WITH_COMMAS = re.compile(r"-?\$?\d[\d,]*(\.\d+)?")
_LETTERED_OPTION = re.compile(r"^[ \t]*\(?(?P<line>[A-J])[).:]\s|\((?P<inline>[A-J])\)", re.MULTILINE)
_NUMBERED_OPTION = re.compile(r"\s*\(?(?P<number>[1-9])[).:]\s*\S")


def load_problems(
    source: str,
    *,
    split: str = "train",
    subset: str | None = None,
    columns: Mapping[str, str | None] = {},
    limit: int | None = None,
) -> list[Problem]:
    """The problems of a file (.jsonl, .json, each also .gz, or .parquet), a folder, or a hub data set.

    `columns` names the column of a field (`{"answer": "reward_model.ground_truth"}`, None: leave the field out); a
    field that it does not name is found by CONVENTIONAL_COLUMNS. `limit` reads the first rows alone.

    - A chat (a list of {role, content}) gives its last user message as the problem and its last assistant message as
      the demonstration. System prompts and earlier turns are dropped: the prompt template frames the problem.
    - An answer in GSM8K's form (steps, then `#### 1,234`) gives the answer 1234 and, where no column holds a
      demonstration, the steps without `<<...>>` as one that ends in `The final answer is \\boxed{1234}.`
    - A level is a whole number, or text that ends in one ("Level 3"). Any other value found by convention is no level.
    - `kind` is "choice" where the answer is the label of an option that the problem shows, unless a column says it.
    - A row without an id gets "FILE:LINE". So does every row where verl's `extra_info.index`, a position within
      whatever file a row once came from, repeats.
    - Every column but those that bear a field's own name goes to `Problem.columns`, as does a level that is none.

    Raises FileNotFoundError or ValueError: one line that names file, line (or row) and column.
    """
    if unknown := [name for name in columns if name not in CONVENTIONAL_COLUMNS]:
        nearest = get_close_matches(unknown[0], CONVENTIONAL_COLUMNS, n=1, cutoff=0.0)
        raise ValueError(f"a problem has no field {unknown[0]!r}; the nearest is {nearest[0]!r}")
    rows = read_rows(source, split=split, subset=subset, limit=limit)
    names = {field: _column_of(field, columns, rows, source) for field in CONVENTIONAL_COLUMNS}
    if "id" not in columns and names["id"] == "extra_info.index":
        indices = [_value(row, "extra_info.index") for row in rows]
        if len({repr(index) for index in indices}) < len(indices):
            names["id"] = None

    problems, first_seen = [], dict[str, str]()
    for row in rows:
        problem = _problem(row, names, named=columns)
        if problem.id in first_seen:
            raise ValueError(f"{row.where}: the id {problem.id!r} is already that of {first_seen[problem.id]}")
        first_seen[problem.id] = row.where
        problems.append(problem)
    return problems


def _column_of(field: str, named: Mapping[str, str | None], rows: Sequence[Row], source: str) -> str | None:
    """The column that holds `field`, decided once for the whole problem set; None where there is none."""
    required = field in ("problem", "answer")
    if field in named:
        column = named[field]
        if column is None and required:
            raise ValueError(f"{source}: the column of the {field} cannot be left out")
        if column is not None and all(_value(row, column) is _ABSENT for row in rows):
            raise ValueError(f"{source}: no column {column!r} for the {field}; {_nearest_column(column, rows[0])}")
        return column
    for column in CONVENTIONAL_COLUMNS[field]:
        if any(_value(row, column) is not _ABSENT for row in rows):
            return column
    if required:
        raise ValueError(f"{rows[0].where}: no column for the {field}; {_nearest_column(field, rows[0])}; name it")
    return None


def _value(row: Row, column: str) -> Any:
    if column in row.columns:
        return row.columns[column]
    value: Any = row.columns
    for key in column.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _nearest_column(column: str, row: Row) -> str:
    names = list(row.columns)
    for outer, value in row.columns.items():
        if isinstance(value, dict):
            names += [f"{outer}.{inner}" for inner in value]
    nearest = get_close_matches(column, names, n=1, cutoff=0.5)
    return (f"the nearest is {nearest[0]!r} of " if nearest else "there are ") + (", ".join(names) or "none")


def _problem(row: Row, names: Mapping[str, str | None], named: Mapping[str, str | None]) -> Problem:
    given = {field: None if column is None else _value(row, column) for field, column in names.items()}
    for field in ("problem", "answer"):
        if given[field] is _ABSENT:
            raise ValueError(f"{row.where}: no column {names[field]!r}; {_nearest_column(str(names[field]), row)}")
    given = {field: None if value is _ABSENT else value for field, value in given.items()}

    def wrong(field: str, wanted: str) -> ValueError:
        value = repr(given[field])
        shown = value if len(value) <= 40 else f"{value[:40]}…"
        leave_out = "" if field in ("problem", "answer") else f"; set its name to null to leave the {field} out"
        return ValueError(f"{row.where}, column {names[field]!r}: {shown} is not {wanted}{leave_out}")

    problem = _message(given["problem"], "user")
    if problem is None:
        raise wrong("problem", "text or a chat with a user message")
    if not problem:
        raise wrong("problem", "a problem: it is empty")

    answer = _number_or_text(given["answer"])
    if answer is None:
        raise wrong("answer", "text or a finite number")
    if not answer:
        raise wrong("answer", "an answer: it is empty")

    solution = _message(given["solution"], "assistant")
    if solution is None and given["solution"] is not None and not _is_chat(given["solution"]):
        raise wrong("solution", "text or a chat")
    answer, worked = _split_worked_answer(answer)

    level = _level(given["level"])
    unread_level = level is None and given["level"] is not None
    if unread_level and "level" in named:
        raise wrong("level", "a whole number or text that ends in one")
    if not isinstance(given["source"], str | None):
        raise wrong("source", "text")
    if not isinstance(given["id"], str | int | None) or isinstance(given["id"], bool) or given["id"] == "":
        raise wrong("id", "text or a whole number")
    if given["kind"] not in ("math", "choice", None):
        raise wrong("kind", "'math' or 'choice'")

    consumed = {field for field, column in names.items() if column == field and not (field == "level" and unread_level)}
    return Problem(
        id=row.name if given["id"] is None else str(given["id"]),
        problem=problem,
        answer=answer,
        solution=solution or worked,
        source=given["source"],
        level=level,
        kind=given["kind"] or _kind(problem, answer),
        columns={column: value for column, value in row.columns.items() if column not in consumed},
    )


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in value
    )


def _message(value: Any, role: str) -> str | None:
    """Text as it is, or the last message of `role` in a chat, without outer space; None where there is neither."""
    if isinstance(value, str):
        return value.strip()
    if _is_chat(value):
        said: list[str] = [message["content"] for message in value if message["role"] == role]
        return said[-1].strip() if said else None
    return None


def _number_or_text(value: Any) -> str | None:
    match value:
        case str():
            return value.strip()
        case bool():
            return None
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() else repr(value)
    return None


def _split_worked_answer(answer: str) -> tuple[str, str | None]:
    """GSM8K's `steps #### N` as (N, demonstration); any other answer as (answer, None)."""
    steps, mark, final = answer.rpartition("####")
    final = final.strip()
    if not mark or not final or (steps and not steps.endswith("\n")):
        return answer, None
    if _NUMBER_WITH_COMMAS.fullmatch(final):
        final = final.replace(",", "")
    steps = _CALCULATOR_ANNOTATION.sub("", steps).strip()
    return final, f"{steps}\nThe final answer is \\boxed{{{final}}}." if steps else None


def _level(value: Any) -> int | None:
    if isinstance(value, str):
        number = re.search(r"(?<![\d.])\d+$", value.strip())
        return int(number[0]) if number else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _kind(problem: str, answer: str) -> AnswerKind:
    """ "choice" for the letter of an option in the problem, or the number of one of the options that end it."""
    if re.fullmatch(r"[A-J]", answer):
        shown = {option["line"] or option["inline"] for option in _LETTERED_OPTION.finditer(problem)}
        return "choice" if len(shown) >= 2 and answer in shown else "math"
    if re.fullmatch(r"[1-9]", answer):
        last_first = (_NUMBERED_OPTION.match(line) for line in reversed(problem.splitlines()) if line.strip())
        numbers = [option["number"] for option in takewhile(bool, last_first) if option]
        return "choice" if len(numbers) >= 2 and answer in numbers else "math"
    return "math"
