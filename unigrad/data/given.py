"""Problems that a Python program holds, as a file that a run can read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unigrad.errors import ConfigError
from unigrad.files import replacing
from unigrad.types import Problem

_FIELDS = ("id", "problem", "answer", "solution", "source", "level", "kind")


def write_rows(rows: Iterable[Any], path: Path, what: str) -> None:
    """One JSON object a line: of `Problem`s, mappings (columns as in a file), a `datasets.Dataset` or a data frame.

    Raises ConfigError, on behalf of `what` ("train"), on a row that is none of these, or whose values are not JSON's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for number, row in enumerate(_rows(rows)):
            try:
                line = json.dumps(_columns(row), default=_plain)
            except TypeError as error:
                raise ConfigError(f"{what}[{number}]: {error}") from None
            file.write(line + "\n")


def _rows(rows: Any) -> Iterator[Any]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        rows = rows.to_dict("records")
    yield from rows


def _columns(row: Any) -> dict[str, Any]:
    if isinstance(row, Problem):
        own = {name: value for name in _FIELDS if (value := getattr(row, name)) is not None}
        if row.messages:
            own["problem"] = [{"role": role, "content": text} for role, text in row.messages]
        return {**row.columns, **own}
    if isinstance(row, Mapping):
        return dict(row)
    raise TypeError(f"a row is a mapping of columns or a unigrad.types.Problem, not {type(row).__name__}")


def _plain(value: Any) -> Any:
    """Of numpy, torch and the like the numbers; of an old date or a path the text."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} has no place in a file of JSON lines")
