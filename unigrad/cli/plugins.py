"""Plugins are loaded before a command's options are read, because they may add some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from unigrad.config import Config
from unigrad.config.keys import parse, validate
from unigrad.config.recipes import recipe_plugins
from unigrad.errors import ConfigError
from unigrad.files import is_file
from unigrad.plugins import load_plugins
from unigrad.runs.folder import CONFIG_FILE

OPTION = "--plugins"
HELP = "modules of your own, with commas: what they register can be chosen by name"


def load(arguments: Sequence[str], configuration: Callable[[str], Path | None] = lambda argument: None) -> None:
    """Load the modules behind `--plugins`; else those of each `configuration` that an argument leads to."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == OPTION:
            text = value or "".join(arguments[index + 1 : index + 2])
            return load_plugins(validate({"plugins": parse(text, Config.model_fields["plugins"])}, OPTION).plugins)
    for file in filter(None, map(configuration, arguments)):
        # Whoever reads the file for its own sake says what is wrong with it.
        with suppress(ConfigError):
            load_plugins(recipe_plugins(str(file)))


def recipe_or_run(argument: str) -> Path | None:
    """A recipe's file, or the configuration of a run's folder."""
    path = Path(argument)
    file = path if path.suffix in (".yaml", ".yml") else path / CONFIG_FILE
    return file if is_file(file) else None
