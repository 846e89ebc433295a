"""The command line: `unigrad train`, `unigrad algorithms`."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from unigrad.config import Config, ConfigError, config_keys, load_config, recipe_names, type_name

DEFAULT_RECIPE = "tiny-hpt"
COMMANDS = ("train", "algorithms")


class _Parser(argparse.ArgumentParser):
    """Errors are one line and exit with 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0 on success, 2 on a usage or configuration error, 1 on a failure at run
    time, and 128 plus the signal's number when a run was asked to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            close = difflib.get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.0)
            raise ConfigError(f"unknown command {arguments[0]!r}; did you mean {close[0]!r}?")
        if arguments[:1] == ["train"]:
            return _train(arguments[1:])
        if arguments[:1] == ["algorithms"]:
            return _algorithms(arguments[1:])
        parser = _Parser(prog="unigrad", description="One gradient for LLM post-training (arXiv:2509.04419).")
        commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        commands.add_parser("train", help="train a model: unigrad train [RECIPE] [--section.key VALUE ...]")
        commands.add_parser("algorithms", help="print Table 1: every algorithm as its four parts")
        if arguments and arguments[0] not in ("-h", "--help"):
            raise ConfigError(f"unknown option {arguments[0]!r}; see unigrad --help")
        parser.print_help()
        return 0
    except ConfigError as error:
        sys.stderr.write(f"unigrad: error: {error}\n")
        return 2


def _train(arguments: list[str]) -> int:
    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else DEFAULT_RECIPE
    parser = _train_parser(recipe if {"-h", "--help"} & set(arguments) else None)
    # Intermixed, so that the recipe may stand behind the options too.
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise _unknown_argument(unknown[0])
    options = vars(known)
    resume, recipe, dry_run = options.pop("resume"), options.pop("recipe"), options.pop("dry_run")
    if resume and recipe:
        raise ConfigError(f"--resume {resume} takes its configuration from the run; leave out the recipe {recipe!r}")
    config = _resumed_config(resume, options) if resume else load_config(recipe or DEFAULT_RECIPE, options)

    from unigrad.train import run

    return run(config, resume=Path(resume) if resume else None, dry_run=dry_run)


def _resumed_config(run: str, overrides: dict[str, str]) -> Config:
    path = Path(run) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"--resume {run}: no run there (it has no config.yaml)")
    return load_config(str(path), overrides)


def _unknown_argument(argument: str) -> ConfigError:
    name = argument.split("=", 1)[0].lstrip("-")
    keys = [key for key, _ in config_keys()] + ["resume", "dry-run", "help"]
    same_leaf = [key for key in keys if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    close = (same_leaf or difflib.get_close_matches(name, keys, n=1, cutoff=0.0))[0]
    if not argument.startswith("-"):
        return ConfigError(f"unexpected argument {argument!r}; keys are given as --section.key VALUE")
    return ConfigError(f"unknown key --{name}; did you mean --{close}?")


def _train_parser(shown_recipe: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unigrad train",
        usage="unigrad train [RECIPE] [--section.key VALUE ...]",
        description="Train a model on problems with demonstrations and a verifier.",
        epilog=_epilog() if shown_recipe else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", help=f"a bundled recipe or a YAML path (default: {DEFAULT_RECIPE})")
    parser.add_argument("--resume", metavar="RUN", help="go on from the newest complete checkpoint of this run")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")
    values: dict[str, Any] = load_config(shown_recipe).flat() if shown_recipe else {}
    groups: dict[str, Any] = {}
    for key, field in config_keys():
        section = key.split(".")[0] if "." in key else "run"
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        default = json.dumps(values.get(key), ensure_ascii=False).strip('"').replace("%", "%%")
        description = (field.description or "").replace("%", "%%")
        groups[section].add_argument(
            f"--{key}",
            dest=key,
            default=argparse.SUPPRESS,
            metavar=type_name(field),
            help=f"{description} (default: {default})",
        )
    return parser


def _epilog() -> str:
    from unigrad.data.templates import prompt_template, template_names

    lines = ["recipes:", *(f"  {name}" for name in recipe_names()), "", "prompt templates:"]
    for name in template_names():
        template = prompt_template(name)
        lines.append(f"  {name:<12}{template.description}")
    return "\n".join(lines)


def _algorithms(arguments: list[str]) -> int:
    parser = _Parser(prog="unigrad algorithms", description="Table 1: every algorithm as its four parts.")
    parser.add_argument("--json", action="store_true", help="as data")
    as_json = parser.parse_args(arguments).json

    from unigrad.estimator import algorithm, algorithm_names

    rows = [algorithm(name).row() for name in algorithm_names()]
    if as_json:
        sys.stdout.write(json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(title="grad = 1_stable · (1/π_ref) · Â · ∇π_θ")
    columns = ("name", "reference", "advantage", "mask", "estimator", "source")
    for heading in ("algorithm", "π_ref", "Â", "mask", "estimator", "source"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    Console().print(table)
    return 0
