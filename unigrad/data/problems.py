"""Problem sets: which column of a row is the problem, the answer, the demonstration, and what a bad row is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unigrad.data.chats import asked, demonstration, is_chat, loaded, question
from unigrad.data.options import shown_option, with_options
from unigrad.data.rows import Row, read_rows, value_at
from unigrad.errors import nearest
from unigrad.files import is_utf8
from unigrad.types import AnswerKind, Problem
from unigrad.verify.boxed import last_boxed

CONVENTIONAL_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "problem": (
        "problem", "question", "prompt", "instruction", "input", "query", "messages", "conversations", "conversation",
    ),
    "answer": (
        "answer", "final_answer", "ground_truth", "gold", "expected_answer", "label", "reward_model.ground_truth",
        "extra_info.answer", "answerKey", "answer_key", "answer_idx",
        "correct_answer", "correct_option", "cop", "correct", "best_answer",
    ),
    "solution": (
        "solution", "demonstration", "completion", "response", "output", "target", "rationale", "generated_solution",
        "r1_solution_1", "messages", "conversations", "conversation",
    ),
    "id": ("id", "problem_id", "uid", "extra_info.index"),
    "source": ("source", "data_source", "dataset"),
    "level": ("level", "difficulty"),
    "kind": ("kind",),
}  # fmt: skip
"""For each field of a Problem the columns that may hold it: in a row, the first that is not empty. A dot descends."""

LONGEST_TEXT = 10**6
"""Characters of a problem, an answer or a demonstration: far more than a model reads, and still split into tokens in
seconds."""
_ABSENT = object()
_CALCULATOR_ANNOTATION = re.compile(r"<<[^<>]*>>")
_NUMBER_WITH_COMMAS = re.compile(r"-?\$?\d[\d,]*(\.\d+)?")
_BARE_ANSWER = re.compile(r"\$[^$=]+\$|\\\([^=]+?\\\)|-?\$?\d[\d,./]*%?")
_LEVEL = re.compile(r"(?:[A-Za-z]+[\s:_-]*)?(?P<level>\d+)(?:\.0+)?")


def load_problems(
    source: str,
    *,
    split: str = "train",
    subset: str | None = None,
    columns: Mapping[str, str | None] = {},
    limit: int | None = None,
    needs_answers: bool = True,
) -> list[Problem]:
    """The problems of a file, a folder, a glob, or a hub data set (see `rows.read_rows`).

    `columns` names the column of a field (`{"answer": "reward_model.ground_truth"}`, None: leave the field out); for a
    field that it does not name, each row's first column of CONVENTIONAL_COLUMNS that is not empty is taken. `limit`
    reads the first rows alone. Without `needs_answers` a problem that has none that can be read has an empty one.

    - A chat (a list of {role, content}, or ShareGPT's {from, value}) gives its last user message as the problem, what
      stands before it (a system prompt, earlier turns) as the problem's context, and as the demonstration the assistant
      message that follows. Alpaca's `instruction` and `input` are one problem.
    - An answer in GSM8K's form (steps, then `#### 1,234`) gives the answer 1234 and, where no column holds a
      demonstration, the steps without `<<...>>` as one that ends in `The final answer is \\boxed{1234}.` Without an
      answer, that of the solution's last box is taken (MATH), or a solution that is nothing but a formula or a number
      is the answer, and no demonstration (TRL).
    - A level is a whole number, alone or behind a word ("Level 3"). Any other value found by convention is no level.
    - Options in columns of their own are written beneath the problem. `kind` is "choice" where the answer is the label
      of an option that the problem shows, unless a column says it.
    - A row without an id gets "FILE:LINE". So does every row where verl's `extra_info.index`, a position within
      whatever file a row once came from, repeats.
    - Every column but those that bear a field's own name goes to `Problem.columns`, as does a level that is none.

    Raises FileNotFoundError or ValueError: one line that names file, line (or row) and column.
    """
    if unknown := [name for name in columns if name not in CONVENTIONAL_COLUMNS]:
        field = nearest(unknown[0], CONVENTIONAL_COLUMNS)
        raise ValueError(f"a problem has no field {unknown[0]!r}; the nearest is {field!r}")
    rows = read_rows(source, split=split, subset=subset, limit=limit)
    candidates = {field: _columns_of(field, columns, rows, source, needs_answers) for field in CONVENTIONAL_COLUMNS}
    if "id" not in columns and candidates["id"] == ("extra_info.index",):
        indices = [_value(row, "extra_info.index") for row in rows]
        if len({repr(index) for index in indices}) < len(indices):
            candidates["id"] = ()

    levels = (_value(row, column) for column in candidates["level"] for row in rows)
    if "level" not in columns and any(map(_is_fraction, levels)):
        candidates["level"] = ()  # a scale of its own, of which the whole numbers alone would be levels
    must_have_one = needs_answers or columns.get("answer") is not None
    problems = [_problem(row, candidates, columns, must_have_one) for row in rows]
    files = [row.name.rpartition(":")[0] for row in rows]
    repeated = len({problem.id for problem in problems}) < len(problems)
    if repeated and len(set(files)) > 1:  # each file has counted its own
        problems = [
            problem if problem.id == row.name else replace(problem, id=f"{file}/{problem.id}")
            for problem, row, file in zip(problems, rows, files, strict=True)
        ]
    first_seen = dict[str, str]()
    for problem, row in zip(problems, rows, strict=True):
        _check_texts(problem, row)
        if problem.id in first_seen:
            raise ValueError(f"{row.where}: the id {problem.id!r} is already that of {first_seen[problem.id]}")
        first_seen[problem.id] = row.where
    return problems


def _check_texts(problem: Problem, row: Row) -> None:
    for what, text in (
        ("id", problem.id),
        ("problem", problem.problem),
        ("answer", problem.answer),
        ("solution", problem.solution or ""),
        *(("chat", text) for _, text in problem.context),
    ):
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"{row.where}: the {what} has {len(text):,} characters; at most {LONGEST_TEXT:,}")
        if not is_utf8(text):
            raise ValueError(f"{row.where}: half a character (a lone surrogate) is in the {what}")


def _columns_of(
    field: str, named: Mapping[str, str | None], rows: Sequence[Row], source: str, needs_answers: bool
) -> tuple[str, ...]:
    """The columns of the problem set that may hold `field`."""
    if field in named:
        column = named[field]
        if column is None:
            if field == "problem" or (field == "answer" and needs_answers):
                raise ValueError(f"{source}: the column of the {field} cannot be left out")
            return ()
        if all(_value(row, column) is _ABSENT for row in rows):
            raise ValueError(f"{source}: no column {column!r} for the {field}; {_nearest_column(column, rows[0])}")
        return (column,)
    spelled = {name.casefold(): name for row in reversed(rows) for name in row.columns}
    conventional = [spelled.get(column.casefold(), column) for column in CONVENTIONAL_COLUMNS[field]]
    found = tuple(
        dict.fromkeys(column for column in conventional if any(_value(row, column) is not _ABSENT for row in rows))
    )
    if field == "problem" and not found:
        raise ValueError(f"{rows[0].where}: no column for the {field}; {_nearest_column(field, rows[0])}; name it")
    return found


def _pick(row: Row, columns: Sequence[str]) -> tuple[str | None, Any]:
    """The first of `columns` that is not empty in this row, and its value; else the first that there is."""
    there = [(column, value) for column in columns if (value := _value(row, column)) is not _ABSENT]
    full = [(column, value) for column, value in there if not _is_empty(value)]
    return full[0] if full else there[0] if there else (None, _ABSENT)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and not value.is_integer()


def _is_empty(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def _value(row: Row, column: str) -> Any:
    return value_at(row.columns, column, _ABSENT)


def _nearest_column(column: str, row: Row) -> str:
    names = list(row.columns)
    for outer, value in row.columns.items():
        if isinstance(value, dict):
            names += [f"{outer}.{inner}" for inner in value]
    name = nearest(column, names, cutoff=0.5)
    return (f"the nearest is {name!r} of " if name else "there are ") + (", ".join(names) or "none")


def _problem(
    row: Row, candidates: Mapping[str, tuple[str, ...]], named: Mapping[str, str | None], needs_answer: bool
) -> Problem:
    picked = {field: _pick(row, columns) for field, columns in candidates.items()}
    names = {field: column for field, (column, _) in picked.items()}
    given = {field: value for field, (_, value) in picked.items()}

    def wrong(field: str, wanted: str) -> ValueError:
        value = repr(given[field])
        shown = value if len(value) <= 40 else f"{value[:40]}…"
        leave_out = "" if field in ("problem", "answer") else f"; set its name to null to leave the {field} out"
        return ValueError(f"{row.where}, column {names[field]!r}: {shown} is not {wanted}{leave_out}")

    if given["problem"] is _ABSENT:
        column = str(candidates["problem"][0])
        raise ValueError(f"{row.where}: no column {column!r}; {_nearest_column(column, row)}")
    given = {field: None if value is _ABSENT else value for field, value in given.items()}

    chat = loaded(given["problem"])
    problem = _asked(chat, wrong)
    if names["problem"] == "instruction" and isinstance(more := row.columns.get("input"), str) and more.strip():
        problem = f"{problem}\n\n{more.strip()}"

    if (own := _answer_beside(row, candidates, named)) is not None:
        names |= {"answer": own, "solution": None}
        given["answer"] = _value(row, own)
    columns = tuple(column for column in candidates["solution"] if column != own)
    demonstrated, solution = _demonstration(row, columns, wrong)
    try:
        answer, worked = _answer(row, given["answer"], names["answer"], candidates["answer"], solution, wrong)
    except ValueError:
        if needs_answer:
            raise
        answer, worked = "", None
    if solution is None and worked is None and isinstance(verls := _value(row, "extra_info.answer"), str):
        _, worked = _split_worked_answer(verls.strip())  # GSM8K as verl prepares it
        demonstrated = "extra_info.answer"
    kind, problem, answer = _choice(row, problem, given["answer"], answer, given["kind"])

    level = _level(given["level"])
    unread_level = level is None and given["level"] is not None
    if unread_level and "level" in named:
        raise wrong("level", "a whole number, alone or behind a word")
    _check_names(given, wrong)

    consumed = {field for field, column in names.items() if column == field and not (field == "level" and unread_level)}
    return Problem(
        id=row.name if given["id"] is None else str(given["id"]),
        problem=problem,
        answer=answer,
        solution=solution or worked,
        source=given["source"],
        level=level,
        kind=kind,
        columns={column: value for column, value in row.columns.items() if column not in consumed},
        messages=(*asked(chat)[:-1], ("user", problem)) if is_chat(chat) else (),
        read_from=_read_from(names, given["answer"], demonstrated, solution or worked),
    )


def _read_from(
    names: Mapping[str, str | None], answer: Any, demonstrated: str | None, solution: str | None
) -> dict[str, str]:
    """The column of each field. demonstrated: that of the demonstration, where it has one of its own; else it came with
    the answer, as the answer may have come with it."""
    solved = names["answer"] if answer is not None and not _is_empty(answer) else demonstrated
    found = {**names, "answer": solved, "solution": (demonstrated or solved) if solution else None}
    return {field: column for field, column in found.items() if column is not None}


_Wrong = Callable[[str, str], ValueError]


def _asked(chat: Any, wrong: _Wrong) -> str:
    problem = question(chat)
    if problem is None:
        raise wrong("problem", "text or a chat with a user message")
    if not problem:
        raise wrong("problem", "a problem: it is empty")
    return problem


def _check_names(given: Mapping[str, Any], wrong: _Wrong) -> None:
    if not isinstance(given["source"], str | None):
        raise wrong("source", "text")
    if not isinstance(given["id"], str | int | None) or isinstance(given["id"], bool) or given["id"] == "":
        raise wrong("id", "text or a whole number")


def _demonstration(row: Row, columns: Sequence[str], wrong: _Wrong) -> tuple[str | None, str | None]:
    """The first column that holds one, with it: an empty text, or a chat that ends with the user, hides none behind
    it."""
    for column in columns:
        value = loaded(_value(row, column))
        if value is _ABSENT or _is_empty(value):
            continue
        if not isinstance(value, str) and not is_chat(value):
            raise wrong("solution", "text or a chat")
        if said := demonstration(value):
            return column, said
    return None, None


def _answer_beside(row: Row, candidates: Mapping[str, tuple[str, ...]], named: Mapping[str, str | None]) -> str | None:
    """The column that would be the demonstration and is the answer: without a column for the answer one that holds a
    formula or a number and nothing else (TRL's `solution`), or one that was named as that, has no box in it, and is not
    all that there is to show."""
    if "solution" in named:
        return None
    values = {column: _value(row, column) for column in candidates["solution"]}
    full = [column for column, value in values.items() if value is not _ABSENT and not _is_empty(value)]
    text = values[full[0]] if full else None
    if not isinstance(text, str):
        return None
    is_bare = _BARE_ANSWER.fullmatch(text.strip()) is not None
    if named.get("answer") == full[0]:
        is_said = last_boxed(text) is not None or "####" in text
        return full[0] if is_bare or (len(full) > 1 and not is_said) else None
    return full[0] if is_bare and not candidates["answer"] else None


def _answer(
    row: Row, given: Any, name: str | None, columns: Sequence[str], solution: str | None, wrong: _Wrong
) -> tuple[str, str | None]:
    """The answer, and the demonstration that came with it."""
    if given is not None and not _is_empty(given):
        answer = _number_or_text(given)
        if answer is None:
            raise wrong("answer", "text or a finite number")
        return _split_worked_answer(answer)
    if solution is not None:
        answer, worked = _split_worked_answer(solution)
        if worked is not None:
            return answer, None
        boxed = last_boxed(solution)
        if boxed:
            return boxed, None
        missing = f"column {name!r} is empty" if name else "there is no column for the answer"
        raise ValueError(
            f"{row.where}: {missing}, and the solution holds no \\boxed{{…}}; {_nearest_column('answer', row)}; "
            "where the solution is the answer itself, give --data.columns.answer its name"
        )
    if name is not None:
        raise wrong("answer", "an answer: it is empty" if isinstance(given, str) else "text or a finite number")
    if columns:
        raise ValueError(f"{row.where}: no column {columns[0]!r}; {_nearest_column(columns[0], row)}")
    raise ValueError(f"{row.where}: no column for the answer; {_nearest_column('answer', row)}; name it")


def _choice(row: Row, problem: str, given: Any, answer: str, kind: Any) -> tuple[AnswerKind, str, str]:
    """The kind of the answer; of a choice, the problem with its options and the right one's label."""
    if kind not in ("math", "choice", None):
        raise ValueError(
            f"{row.where}, column 'kind': {kind!r} is not 'math' or 'choice'; "
            "set its name to null to leave the kind out"
        )
    if kind == "math":
        return "math", problem, answer
    try:
        lettered = with_options(problem, answer if isinstance(given, str) else given, row.columns)
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from None
    if lettered is not None:
        return "choice", *lettered
    label = shown_option(problem, answer)
    return kind or ("choice" if label else "math"), problem, label or answer


def _number_or_text(value: Any) -> str | None:
    match value:
        case str():
            return _only_item(value.strip())
        case [str() | int() | float() as item]:
            return _number_or_text(item)
        case bool():
            return None
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() else repr(value)
    return None


def _only_item(text: str) -> str:
    """The text of a list of one that a column keeps as text: `["256"]`."""
    if not text.startswith('["'):
        return text
    try:
        items = json.loads(text)
    except ValueError:
        return text
    return items[0].strip() if len(items) == 1 and isinstance(items[0], str) else text


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
        match = _LEVEL.fullmatch(value.strip())
        return int(match["level"]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None
