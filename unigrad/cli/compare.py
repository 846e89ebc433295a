"""`unigrad compare`: methods side by side."""

from __future__ import annotations

from argparse import SUPPRESS
from pathlib import Path

from unigrad.cli import plugins
from unigrad.cli.parser import KEYS_FOLLOW, Parser, given
from unigrad.compare.from_python import DEFAULT_FAMILY, DEFAULT_SEEDS, default_folder
from unigrad.config import config_keys
from unigrad.errors import ConfigError

MOST_SEEDS, MOST_JOBS = 1000, 1024


def run(arguments: list[str]) -> int:
    plugins.load(arguments, plugins.recipe_or_run)
    overrides = vars(parser().read(arguments, KEYS_FOLLOW))
    recipe, methods, out = (overrides.pop(name) for name in ("recipe", "methods", "out"))
    seeds, first_seed, jobs = (overrides.pop(name) for name in ("seeds", "first_seed", "jobs"))
    for option, number, least, most in (
        ("--seeds", seeds, 1, MOST_SEEDS),
        ("--first-seed", first_seed, 0, 2**62),
        ("--jobs", jobs, 1, MOST_JOBS),
    ):
        if number is not None and number < least:
            raise ConfigError(f"{option} {number}: must be at least {least}")
        if number is not None and number > most:
            raise ConfigError(f"{option} {number}: must be at most {most}")

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.compare.comparison import compare

    folder = Path(out) if out else default_folder(recipe)
    return compare(recipe, methods, range(first_seed, first_seed + seeds), folder, jobs, overrides)


def parser() -> Parser:
    from unigrad.compare.sets import DEFAULT_SET, SETS

    sets = "\n".join(f"  {name:<12}{', '.join(methods)}" for name, methods in SETS.items())
    parser = Parser(
        prog="unigrad compare",
        usage="unigrad compare [RECIPE] [--methods a,b,c] [--seeds K] [--out DIR] [--section.key VALUE ...]",
        description="Train several methods on the same seeds, each run a process of its own, and tabulate their\n"
        "held-out accuracy with intervals over the seeds. What was stopped or killed goes on with the same command;\n"
        "what is finished is not trained again.",
        epilog=f"sets of methods:\n{sets}\n\n"
        "Any key of `unigrad train --help` may follow as --section.key VALUE and goes to every run, but for\n"
        "method.name, train.seed and output_dir, which the comparison sets. The embedded problems are generated from\n"
        "the run's seed too, unless --tiny.seed says otherwise. With --train.max_tokens N the methods are compared at\n"
        "an equal number of tokens.\n\n"
        "Written to DIR: METHOD/seed-S/, the runs, each with its seed-S.log; comparison.json, settings and numbers;\n"
        "comparison.md, the table; curves.png.",
        noun="key",
    )
    add = parser.add_argument
    add(
        "recipe", nargs="?", type=given, default=DEFAULT_FAMILY,
        help=f"a bundled recipe or a YAML path; its section `methods` says what changes under each ({DEFAULT_FAMILY})",
    )  # fmt: skip
    add("--methods", default=DEFAULT_SET, help="methods and sets of them, with commas (default: %(default)s)")
    add(
        "--seeds",
        type=int,
        default=DEFAULT_SEEDS,
        metavar="K",
        help="seeds of each method, K of them (default: %(default)s)",
    )
    add("--first-seed", type=int, default=0, metavar="S", help="the first of them; search on others (default: 0)")
    add("--out", metavar="DIR", type=given, help="where runs and results go (default: runs/compare-RECIPE)")
    add("--jobs", type=int, metavar="N", help="runs at once (default: one a GPU; without one, one a core)")
    for key, _ in config_keys():
        add(f"--{key}", dest=key, default=SUPPRESS, help=SUPPRESS)
    return parser
