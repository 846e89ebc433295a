"""`unigrad bench`: what a training step of a model costs on this machine, part by part."""

from __future__ import annotations

from argparse import SUPPRESS

from unigrad.bench.options import AXES, DEFAULTS, LEAST_PROMPT, LEAST_VOCABULARY, SECTIONS, SHORT
from unigrad.cli import plugins
from unigrad.cli.parser import Parser, add_key, given, in_words
from unigrad.config import Config, config_keys, nearest_key, read_option
from unigrad.errors import ConfigError

MOST_REPEATS = 10_000


def run(arguments: list[str]) -> int:
    plugins.load(arguments)
    options = vars(parser().read(arguments, "one MODEL is measured; keys are given as --section.key VALUE"))
    model, repeats, growth = (options.pop(name) for name in ("model", "repeats", "growth"))
    if not 1 <= repeats <= MOST_REPEATS:
        raise ConfigError(f"--repeats {repeats}: must be from 1 to {MOST_REPEATS}")
    for option, key in SHORT.items():
        if key in options:
            number = read_option(f"--{option}", key, options[key])
            if option == "prompt-tokens" and number < LEAST_PROMPT:
                raise ConfigError(f"--{option} {number}: must be at least {LEAST_PROMPT}")
    along = None if growth is None else _growth(growth)

    from unigrad.bench.bench import bench

    return bench({**options, "model.name_or_path": model}, repeats, along)


def _growth(text: str) -> tuple[str, tuple[int, ...]]:
    """The axis, and the values that are given for it. Raises ConfigError on what is none."""
    axis, equals, values = text.partition("=")
    if axis not in AXES:
        raise ConfigError(f"--growth {axis}: did you mean {nearest_key(axis, AXES)!r}? ({', '.join(AXES)})")
    if not equals:
        return axis, ()
    least = LEAST_PROMPT if axis == "prompt" else LEAST_VOCABULARY if axis == "vocabulary" else 1
    parts = values.split(",")
    if not all(each.isascii() and each.isdigit() and int(each) >= least for each in parts) or len({*parts}) < 2:
        raise ConfigError(f"--growth {text}: must be {axis}=N,N,…, two numbers or more, each at least {least}")
    return axis, tuple(int(each) for each in parts)


def parser() -> Parser:
    parser = Parser(
        prog="unigrad bench",
        usage="unigrad bench [MODEL] [--prompts N] [--new-tokens N] [...] [--growth AXIS] [--section.key VALUE ...]",
        description="Take real training steps on made-up prompts, with completions of a forced length, in a process\n"
        "of its own, and print where their time goes, tokens a second, peak memory, and the share of the machine's\n"
        "matrix rate. With --growth print how time and memory grow, with the exponent of each.",
        epilog="Any key of `unigrad train --help` in the sections " + ", ".join(SECTIONS) + "\nmay follow as "
        "--section.key VALUE: --model.dtype bfloat16, --train.num_iterations 2, --algorithm.name dapo, …",
    )
    add = parser.add_argument
    add(
        "model", nargs="?", type=given, default="tiny",
        help="a folder, a hub id, a .gguf file, or `tiny`, the embedded base model (default: tiny)",
    )  # fmt: skip
    add("--repeats", type=int, default=5, metavar="N", help="steps that are measured (default: %(default)s)")
    add(
        "--growth", metavar="AXIS[=N,N,…]",
        help=f"along {', '.join(AXES)}: a process for each value; models of other sizes get random weights",
    )  # fmt: skip
    add(plugins.OPTION, default=SUPPRESS, metavar="MODULE[,...]", help=plugins.HELP)
    known, defaults = dict(config_keys()), Config().flat()
    for option, key in SHORT.items():
        add_key(parser, key, known[key], DEFAULTS.get(key) or in_words(defaults[key]), f"--{option}")
    for key in known:
        if key.split(".")[0] in SECTIONS and key not in SHORT.values() and key != "model.name_or_path":
            add(f"--{key}", dest=key, default=SUPPRESS, help=SUPPRESS)
    return parser
