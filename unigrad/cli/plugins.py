"""Which plugins a command line asks for: they are loaded before its options are read, because they may add some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unigrad.runs.folder import CONFIG_FILE

OPTION = "--plugins"
HELP = "modules of your own, with commas: what they register can be chosen by name"


def named_plugins(arguments: Sequence[str]) -> tuple[str, ...]:
    """The modules behind `--plugins`; else those of the recipe file or of the run's folder that is named."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == OPTION:
            text = value or "".join(arguments[index + 1 : index + 2])
            return tuple(filter(None, map(str.strip, text.strip("[]").split(","))))
    files = (file for argument in arguments for file in _configurations(Path(argument)) if file.is_file())
    return tuple(name for file in files for name in _plugins(file))


def _configurations(path: Path) -> tuple[Path, ...]:
    return (path,) if path.suffix in (".yaml", ".yml") else (path / CONFIG_FILE, path.parent / CONFIG_FILE)


def _plugins(file: Path) -> tuple[str, ...]:
    """None of a file that cannot be read: whoever reads it for its own sake says what is wrong with it."""
    try:
        tree: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ()
    names = tree.get("plugins") if isinstance(tree, dict) else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
