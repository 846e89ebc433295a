"""`unigrad evaluate`: a model on benchmarks, with the keys that a run's evaluations have."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unigrad.cli import plugins
from unigrad.cli.parser import Parser, add_key, given, given_path, in_words, template_lines
from unigrad.config import Config, check_option, config_keys, read_option
from unigrad.evaluate.own_run import config_file
from unigrad.evaluate.protocol import Protocol
from unigrad.evaluate.suites import BENCHMARKS, SUITES

OPEN = {
    "data.prompt_template": "that of the run that MODEL lies in; else plain for tiny, chat_boxed if the tokenizer has "
    "a chat template, chat if that asks for the box itself, or boxed",
    "data.apply_chat_template": "as the run that MODEL lies in has it; else null",
    "data.chat_template_kwargs": "those of the run that MODEL lies in; else none",
    "data.system_prompt": "as the run that MODEL lies in has it; else null",
    "rollout.stop": "those of the run that MODEL lies in; else none",
    "verify.no_box": "as the run that MODEL lies in has it; else last_number",
    "rollout.engine": "that of the run that MODEL lies in; else auto",
    "eval.temperature": "that of the run that MODEL lies in; else 0.6",
    "eval.top_p": "that of the run that MODEL lies in; else 0.95",
    "eval.max_completion_length": "that of the held-out problems of the run that MODEL lies in; else 8192 or what the "
    "model's positions leave",
    "eval.num_generations": "a benchmark's own k; of one that has none, and of a file, as the run that MODEL lies in "
    "has it, else 1",
    "eval.seed": "that of the held-out problems of the run that MODEL lies in; else 0",
    "model.dtype": "as the run that MODEL lies in has it; else auto",
}
"""Keys with another default than the configuration's."""
LISTS = {"rollout.stop"}
"""Keys whose short option names one member, and may be given again for more."""


def run(arguments: list[str]) -> int:
    plugins.load(arguments, config_file)
    options = vars(parser().read(arguments, "one MODEL is evaluated, on --suite A,B"))
    model, suite, rescore = (options.pop(name) for name in ("model", "suite", "rescore"))
    del options["plugins"]  # loaded before
    out, data, against, passes = (options.pop(name) for name in ("out", "data", "against", "passes"))
    protocol = read_protocol(options)

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.evaluate.evaluation import evaluate

    return evaluate(model, suite, protocol, out=out, data=data, rescore=rescore, against=against, passes=passes)


def read_protocol(options: Mapping[str, Sequence[tuple[str, str]]]) -> Protocol:
    """Of what `add_protocol` gathered. Raises ConfigError on a bad value."""
    return Protocol.of({key: _value(key, given) for key, given in options.items()})


class _Given(argparse.Action):
    """Keeps each text with the spelling that it was given under."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, ()), (option_string, values)])


def _value(key: str, given: Sequence[tuple[str, str]]) -> Any:
    """The last that was given, or of a list the last whole one and what followed it.

    Raises ConfigError on a bad one.
    """
    value: Any = None
    for option, text in given:
        if key in LISTS and option != f"--{key}":
            value = (*(value or ()), *check_option(option, key, (text,)))
        else:
            value = read_option(option, key, text)
    return value


def parser() -> Parser:
    parser = Parser(
        prog="unigrad evaluate",
        usage="unigrad evaluate MODEL --suite NAME|PATH[,...] [--data DIR] [--out DIR] [--section.key VALUE ...]",
        description="Sample completions of benchmark problems, verify them, and tabulate accuracy with intervals over\n"
        "the problems and pass@k. What was stopped or killed goes on with the same command; what is there is not\n"
        "sampled again. The defaults are the paper's protocol (§4.1).",
        epilog=_epilog(),
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        type=given,
        help="a folder, a hub id, a .gguf file, or `tiny`, the embedded base model",
    )
    add(
        "--suite",
        required=True,
        metavar="NAME|PATH",
        type=given,
        help="suites, benchmarks and problem files, with commas",
    )
    add(
        "--data",
        metavar="DIR",
        type=given_path,
        help="local copies, NAME.jsonl(.gz) or .parquet, before the hub's; or the one file",
    )
    add("--out", metavar="DIR", type=given_path, help="where it all goes (default: evaluations/MODEL-SUITE)")
    add(
        "--against",
        metavar="DIR",
        type=given_path,
        help="then compare, problem by problem, with a finished evaluation (Table 4)",
    )
    add(
        "--passes",
        metavar="FILE.jsonl",
        type=given_path,
        help="then write the problems there, each with its pass_rate, for data.min_pass_rate and data.max_pass_rate",
    )
    add("--rescore", action="store_true", help="verify the saved completions again, without the model")
    add(plugins.OPTION, metavar="MODULE[,...]", help=plugins.HELP)
    add_protocol(parser)
    return parser


def add_protocol(parser: Parser, without: Collection[str] = ()) -> None:
    """The keys of a protocol as options, but those `without`."""
    keys = parser.add_argument_group(
        "keys, as in `unigrad train --help`, each with its short spelling (--stop is one string, given again for more)"
    )
    known, defaults = dict(config_keys()), Config().flat()
    for name, key in Protocol.keys().items():
        if key not in without:
            default = OPEN.get(key) or in_words(defaults[key])
            add_key(keys, key, known[key], default, f"--{name.replace('_', '-')}", action=_Given)


def _epilog() -> str:
    lines = ["suites:", *(f"  {name:<14}{', '.join(benchmarks)}" for name, benchmarks in SUITES.items())]
    lines += ["", "benchmarks:"]
    lines += [
        f"  {each.name:<14}{each.title}, avg@{each.samples or 'k of its run, else 1'}" for each in BENCHMARKS.values()
    ]
    lines += ["", *template_lines(), ""]
    written = "settings.json; completions/NAME.jsonl, every completion with its verdict; results.json."
    return "\n".join([*lines, f"Written to --out: {written}"])
