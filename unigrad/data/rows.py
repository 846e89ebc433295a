"""Rows of a problem set, each with the place it came from: JSON, CSV, parquet, a folder, or a data set of the hub."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from unigrad.errors import nearest

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".csv.gz", ".tsv")

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What `datasets` takes for the name of a split in the name of a file or folder."""
_NO_PROBLEMS = frozenset({"dataset_info.json", "dataset_infos.json", "metadata.json", "config.json"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `where` names it in an error ("train.jsonl, line 3"), `name` is a stable id for it ("train.jsonl:3")."""

    where: str
    name: str
    columns: dict[str, Any]


def value_at(columns: Mapping[str, Any], column: str, absent: Any = None) -> Any:
    """A column's value, by its own name or else by a dotted path into nested ones; `absent` where there is none."""
    if column in columns:
        return columns[column]
    value: Any = columns
    for key in column.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return absent
        value = value[key]
    return value


def read_rows(source: str, *, split: str = "train", subset: str | None = None, limit: int | None = None) -> list[Row]:
    """The first `limit` rows (all, if None) of a file, of all files of a folder or glob, or of a data set of the hub.

    A folder may be one that `save_to_disk` wrote. Where the names of its files or folders tell splits apart
    (`test.csv`, `train/1.json`), those of `split` are read, else all, in the order of their names. `split` and
    `subset` (the hub's name for a configuration) select within a folder or a hub data set; a file is read whole, so
    that a recipe for a hub data set takes a local copy of it too.

    Raises FileNotFoundError for a file or data set that is not there, ValueError for one that cannot be read; each
    message is one line that says where.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{source}: the limit is {limit}; it must be at least 1")
    path = Path(source).expanduser()
    if path.is_dir():
        rows = _folder_rows(source, path, split, subset)
    elif path.is_file():
        rows = _file_rows(path, path.name)
    elif re.search(r"[*?\[]", source):
        rows = _glob_rows(source)
    elif _looks_like_a_path(source):
        rows = _file_rows(path, path.name)
    else:
        rows = _dataset_rows(source, source, split, subset)
    taken = list(islice(rows, limit))
    if not taken:
        raise ValueError(f"{source}: no rows")
    return taken


def _folder_rows(source: str, folder: Path, split: str, subset: str | None) -> Iterator[Row]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file() or subset is not None:
        return _dataset_rows(source, str(folder), split, subset)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name.endswith(SUFFIXES)
        and path.name not in _NO_PROBLEMS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        return _dataset_rows(source, str(folder), split, subset)
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    named = {name for name in splits.values() if name}
    if named:
        files = [path for path in files if splits[path] == split]
        if not files:
            raise ValueError(f"data set {source}, split {split!r}: unknown split, it has {', '.join(sorted(named))}")
    return chain.from_iterable(_file_rows(path, path.relative_to(folder).as_posix()) for path in files)


def _split_of(path: Path) -> str | None:
    """The split that the parts of a path name, the innermost first."""
    for part in reversed(path.parts):
        for split, words in _SPLIT_WORDS.items():
            if re.search(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])", part.lower()):
                return split
    return None


def _glob_rows(pattern: str) -> Iterator[Row]:
    path = Path(pattern).expanduser()
    fixed = [part for part in path.parts if not re.search(r"[*?\[]", part)]
    folder = Path(*path.parts[: next(index for index, part in enumerate(path.parts) if re.search(r"[*?\[]", part))])
    rest = Path(*path.parts[len(folder.parts) :]) if folder.parts else path
    files = sorted(found for found in folder.glob(str(rest)) if found.is_file()) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"no file matches {pattern}; {_nearest_file(folder / (fixed[-1] if fixed else ''))}")
    return chain.from_iterable(_file_rows(found, found.relative_to(folder).as_posix()) for found in files)


def _looks_like_a_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or "\\" in source or re.search(r"\.[A-Za-z]+$", source) is not None


def _file_rows(path: Path, name: str) -> Iterator[Row]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; {_nearest_file(path)}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path}: the name ends in none of {', '.join(SUFFIXES)}")
    try:
        for unit, number, value in _reader(path):
            if not isinstance(value, dict):
                raise ValueError(f"{path}, {unit} {number}: a row is an object, not {type(value).__name__}")
            yield Row(f"{path}, {unit} {number}", f"{name}:{number}", value)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({_first_line(error)})") from error


def _reader(path: Path) -> Iterator[tuple[str, int, Any]]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.name.endswith((".csv", ".csv.gz", ".tsv")):
        return _read_table(path)
    return _read_json(path)


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIXES)]
    name = nearest(path.name, names)
    return f"the nearest is {folder / name}" if name else f"no problem set lies in {folder}"


def _read_json(path: Path) -> Iterator[tuple[str, int, Any]]:
    """JSON lines by their line; a .json file may also be one list, whose rows count from 1, or one long row."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            start = line.lstrip(b"\xef\xbb\xbf ") if number == 1 and ".json" in path.suffixes else b""
            if start.startswith(b"["):
                for row, value in enumerate(_parse_json(line + lines.read(), path, 1), 1):
                    yield "row", row, value
            elif start.strip() == b"{":
                yield "row", 1, _parse_json(line + lines.read(), path, 1)
            elif line.strip():
                yield "line", number, _parse_json(line.rstrip(b"\r\n"), path, number)


def _read_table(path: Path) -> Iterator[tuple[str, int, Any]]:
    """CSV (or tab-separated) rows by the line on which they end; an empty cell is None."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
        texts = (line.decode("utf-8-sig" if number == 0 else "utf-8") for number, line in enumerate(raw))
        lines = csv.reader(texts, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        header: Sequence[str] | None = None
        try:
            for cells in lines:
                if header is None:
                    header = [cell.strip() for cell in cells]
                    if len(set(header)) < len(header):
                        raise ValueError(f"{path}, line {lines.line_num}: two columns have one name")
                elif cells:
                    if len(cells) != len(header):
                        raise ValueError(
                            f"{path}, line {lines.line_num}: {len(cells)} cells under {len(header)} columns "
                            f"({', '.join(header)})"
                        )
                    yield "line", lines.line_num, {name: cell or None for name, cell in zip(header, cells, strict=True)}
        except csv.Error as error:
            raise ValueError(f"{path}, line {lines.line_num}: malformed CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {lines.line_num + 1}: not UTF-8 ({error.reason})") from error


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
