"""Rows of a problem set, each with the place it came from: JSON lines, JSON, parquet, or a data set of the hub."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `where` names it in an error ("train.jsonl, line 3"), `name` is a stable id for it ("train.jsonl:3")."""

    where: str
    name: str
    columns: dict[str, Any]


def read_rows(source: str, *, split: str = "train", subset: str | None = None, limit: int | None = None) -> list[Row]:
    """The first `limit` rows (all, if None) of a file, a folder that `datasets` can load, or a data set of the hub.

    `split` and `subset` (the hub's name for a configuration) select within a folder or a hub data set; a file is read
    whole, so that a recipe for a hub data set takes a local copy of it too.

    Raises FileNotFoundError for a file or data set that is not there, ValueError for one that cannot be read; each
    message is one line that says where.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{source}: the limit is {limit}; it must be at least 1")
    path = Path(source).expanduser()
    if path.is_dir():
        rows = _dataset_rows(source, str(path), split, subset)
    elif path.is_file() or _looks_like_a_path(source):
        rows = _file_rows(path)
    else:
        rows = _dataset_rows(source, source, split, subset)
    taken = list(islice(rows, limit))
    if not taken:
        raise ValueError(f"{source}: no rows")
    return taken


def _looks_like_a_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or "\\" in source or re.search(r"\.[A-Za-z]+$", source) is not None


def _file_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; {_nearest_file(path)}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path}: the name ends in none of {', '.join(SUFFIXES)}")
    read = _read_parquet if path.suffix == ".parquet" else _read_json
    try:
        for unit, number, value in read(path):
            if not isinstance(value, dict):
                raise ValueError(f"{path}, {unit} {number}: a row is an object, not {type(value).__name__}")
            yield Row(f"{path}, {unit} {number}", f"{path.name}:{number}", value)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({_first_line(error)})") from error


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIXES)]
    nearest = get_close_matches(path.name, names, n=1, cutoff=0.0)
    return f"the nearest is {folder / nearest[0]}" if nearest else f"no problem set lies in {folder}"


def _read_json(path: Path) -> Iterator[tuple[str, int, Any]]:
    """JSON lines by their line; a .json file may also be one list, whose rows count from 1."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and ".json" in path.suffixes and line.lstrip(b"\xef\xbb\xbf ").startswith(b"["):
                for row, value in enumerate(_parse_json(line + lines.read(), path, 1), 1):
                    yield "row", row, value
            elif line.strip():
                yield "line", number, _parse_json(line.rstrip(b"\r\n"), path, number)


def _parse_json(raw: bytes, path: Path, line: int) -> Any:
    """The value of `raw`, whose first line is line number `line` of the file."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise ValueError(f"{path}, line {line}: malformed JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {line}: malformed JSON: {_first_line(error)}") from error


def _read_parquet(path: Path) -> Iterator[tuple[str, int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            batches = table.iter_batches(batch_size=1024)
            for number, value in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                yield "row", number, value
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a readable parquet file ({_first_line(error)})") from error


def _dataset_rows(source: str, path: str, split: str, subset: str | None) -> Iterator[Row]:
    import datasets

    try:
        if (Path(path) / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(path)
            if split not in saved:
                raise ValueError(f"unknown split, it has {', '.join(saved)}")
            dataset = saved[split]
        elif (Path(path) / "state.json").is_file():
            dataset = datasets.load_from_disk(path)
        else:
            dataset = datasets.load_dataset(path, subset, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise FileNotFoundError(f"{source}: no such file here and no such data set on the hub") from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"data set {source}, split {split!r}: {_first_line(error)}") from error
    for number, columns in enumerate(dataset, 1):
        yield Row(f"{source}, split {split!r}, row {number}", f"{source}:{number}", columns)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
