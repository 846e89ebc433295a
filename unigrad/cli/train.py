"""`unigrad train`: every key of the configuration as an option, on top of a recipe or of the run that goes on."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from unigrad.cli import plugins
from unigrad.cli.parser import KEYS_FOLLOW, Parser, add_key, given, in_words, template_lines
from unigrad.config import config_keys, load_config, recipe_families
from unigrad.errors import ConfigError
from unigrad.machine import launched
from unigrad.train.configuration import DEFAULT_RECIPE, configuration
from unigrad.world import speaks_first

RANKS_START = "torchrun --nproc-per-node N -m unigrad train"


def run(arguments: list[str]) -> int:
    if launched().size == 1:
        return _run(arguments)
    try:
        return _run(arguments)
    except BaseException:
        # What ends this rank ends others too, or is another's end: one of them says it.
        if not speaks_first():
            sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        raise


def _run(arguments: list[str]) -> int:
    plugins.load(arguments, plugins.recipe_or_run)
    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else DEFAULT_RECIPE
    options = vars(parser(recipe if {"-h", "--help"} & set(arguments) else None).read(arguments, KEYS_FOLLOW))
    resume, recipe, dry_run = options.pop("resume"), options.pop("recipe"), options.pop("dry_run")
    plan, launcher, workers = options.pop("plan"), options.pop("launcher"), options.pop("workers")
    config = configuration(recipe, resume, options)
    ranks = _workers(launcher, workers)

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.train.run import run as train
    from unigrad.train.run import show_plan

    if plan:
        return show_plan(config)
    if ranks is not None:
        from unigrad.train.ray import run_on_ray

        return run_on_ray(config, ranks, resume=Path(resume) if resume else None)
    return train(config, resume=Path(resume) if resume else None, dry_run=dry_run)


def _workers(launcher: str | None, workers: str | None) -> int | None:
    """How many ranks Ray is to start; None without a launcher. Raises ConfigError on what does not fit together."""
    if launcher is None:
        if workers is not None:
            raise ConfigError("--workers is of --launcher ray; torchrun has --nproc-per-node")
        return None
    if launcher != "ray":
        raise ConfigError(f"unknown launcher {launcher!r}; did you mean 'ray'? torchrun starts {RANKS_START!r}")
    if launched().size > 1:
        raise ConfigError("--launcher ray starts the ranks itself; leave out torchrun")
    if workers is None or not workers.isdecimal() or int(workers) < 1:
        raise ConfigError(f"--workers {workers}: with --launcher ray give the number of ranks, at least 1")
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--launcher ray needs Ray: pip install 'unigrad[ray]'")
    return int(workers)


def parser(shown_recipe: str | None = None) -> Parser:
    """shown_recipe: whose values stand as the defaults in `--help`; None where nobody asked for help."""
    parser = Parser(
        prog="unigrad train",
        usage="unigrad train [RECIPE] [--section.key VALUE ...]",
        description="Train a model on problems with demonstrations and a verifier.",
        epilog=_epilog() if shown_recipe else None,
        noun="key",
    )
    parser.add_argument(
        "recipe", nargs="?", type=given, help=f"a bundled recipe or a YAML path (default: {DEFAULT_RECIPE})"
    )
    parser.add_argument(
        "--resume", metavar="RUN", type=given, help="go on from the newest complete checkpoint of this run"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")
    parser.add_argument(
        "--plan", action="store_true", help="print parameters, memory, tokens and needs, before anything is downloaded"
    )
    parser.add_argument("--launcher", metavar="ray", type=given, help="start several ranks through Ray Train")
    parser.add_argument("--workers", metavar="N", type=given, help="with --launcher ray: how many ranks")
    values: dict[str, Any] = load_config(shown_recipe).flat() if shown_recipe else {}
    groups: dict[str, Any] = {}
    for key, field in config_keys():
        section = key.split(".")[0] if "." in key else "run"
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        add_key(groups[section], key, field, in_words(values.get(key)))
    return parser


def _epilog() -> str:
    lines = ["recipes, and the methods that each tunes (tiny-luffy, qwen2.5-math-7b-luffy-official, …):"]
    lines += [f"  {family:<28}{', '.join(methods)}" for family, methods in recipe_families().items()]
    return "\n".join([*lines, "", *template_lines()])
