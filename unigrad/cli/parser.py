"""What the commands' parsers share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from unigrad.config import nearest_key, type_name
from unigrad.errors import ConfigError

KEYS_FOLLOW = "keys are given as --section.key VALUE"


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit with 2; an option is never cut short; texts keep their line breaks.

    noun: what an unknown option is called.
    """

    def __init__(self, noun: str = "option", **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._noun = noun

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)

    def read(self, arguments: Sequence[str], otherwise: str) -> argparse.Namespace:
        """The arguments, in any order. otherwise: what an unexpected one is told.

        Raises ConfigError on an unknown option, naming the nearest.
        """
        known, unknown = self.parse_known_intermixed_args(arguments)
        if not unknown:
            return known
        if not unknown[0].startswith("-"):
            raise ConfigError(f"unexpected argument {unknown[0]!r}; {otherwise}")
        name = unknown[0].split("=", 1)[0].lstrip("-")
        close = nearest_key(name, (option.lstrip("-") for option in self._option_string_actions))
        raise ConfigError(f"unknown {self._noun} --{name}; did you mean --{close}?")


def given(text: str) -> str:
    """An argument that must not be empty: an empty path would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def given_path(text: str) -> Path:
    """As `given`, a path."""
    return Path(given(text))


def add_key(
    to: argparse._ActionsContainer, key: str, field: FieldInfo, default: str, *spellings: str, **options: Any
) -> None:
    """An option for a key of the configuration, --key and the other `spellings`. default: in words, for `--help`."""
    text = f"{field.description or ''} (default: {default})".replace("%", "%%")
    to.add_argument(
        f"--{key}", *spellings, dest=key, default=argparse.SUPPRESS, metavar=type_name(field), help=text, **options
    )


def in_words(value: Any) -> str:
    """A default as `--help` shows it."""
    return json.dumps(value, ensure_ascii=False).strip('"')


def template_lines() -> list[str]:
    """The prompt templates, for the end of `--help`."""
    from unigrad.data.templates import prompt_template, template_names

    return ["prompt templates:", *(f"  {name:<12}{prompt_template(name).description}" for name in template_names())]
