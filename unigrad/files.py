"""Text files that a kill may fall into: replaced whole, and read as far as they are whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from unigrad.errors import ConfigError

try:
    import fcntl
except ImportError:
    raise ConfigError("unigrad runs on Linux and macOS, on Windows inside WSL: this Python has no fcntl") from None

T = TypeVar("T")


def lock(file: int | IO[bytes]) -> None:
    """For this process, until the file is closed. Raises BlockingIOError where another process has it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def replace_text(path: Path, text: str) -> None:
    """Replaced whole: whoever reads it, and whoever is killed, finds the old or the new."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def replace_json(path: Path, data: Mapping[str, Any]) -> None:
    """An object, to be read by people too; replaced as `replace_text` does."""
    replace_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, schema: TypeAdapter[T]) -> T:
    """What a JSON file holds. Raises ValueError, one line naming file, place and reason, where that is not `schema`."""
    try:
        return schema.validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        place = "".join(f", {part}" for part in first["loc"])
        raise ValueError(f"{path}{place}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a line cut off, by a kill or in the writing, ends them."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                return
