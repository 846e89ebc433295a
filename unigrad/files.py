"""Text files that a kill may fall into: replaced whole, and read as far as they are whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def replace_text(path: Path, text: str) -> None:
    """Replaced whole: whoever reads it, and whoever is killed, finds the old or the new."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def replace_json(path: Path, data: Mapping[str, Any]) -> None:
    """An object, to be read by people too; replaced as `replace_text` does."""
    replace_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a line cut off, by a kill or in the writing, ends them."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                return
