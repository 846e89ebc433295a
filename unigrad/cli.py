"""The command line: `unigrad train`, `unigrad evaluate`, `unigrad compare`, `unigrad report`, `unigrad
algorithms`."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from unigrad.config import CONFIG_FILE, Config, ConfigError, config_keys, load_config, recipe_families, type_name
from unigrad.types import NoBox

DEFAULT_RECIPE = "tiny-hpt"
DEFAULT_FAMILY = "tiny"
COMMANDS = ("train", "evaluate", "compare", "report", "algorithms")


class _Parser(argparse.ArgumentParser):
    """Errors are one line and exit with 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)

    def unknown_option(self, argument: str) -> ConfigError:
        name = argument.split("=", 1)[0]
        close = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=0.0)
        return ConfigError(f"unknown option {name}; did you mean {close[0]}?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0 on success, 2 on a usage or configuration error, 1 on a failure at run
    time, and 128 plus the signal's number when a run was asked to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _keep_dependencies_quiet()
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            close = difflib.get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.0)
            raise ConfigError(f"unknown command {arguments[0]!r}; did you mean {close[0]!r}?")
        if arguments[:1] == ["train"]:
            return _train(arguments[1:])
        if arguments[:1] == ["evaluate"]:
            return _evaluate(arguments[1:])
        if arguments[:1] == ["compare"]:
            return _compare(arguments[1:])
        if arguments[:1] == ["report"]:
            return _report(arguments[1:])
        if arguments[:1] == ["algorithms"]:
            return _algorithms(arguments[1:])
        parser = _Parser(prog="unigrad", description="One gradient for LLM post-training (arXiv:2509.04419).")
        parser.add_argument(
            "--version", action="store_true", help="print the versions of unigrad and what it stands on"
        )
        commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        commands.add_parser("train", help="train a model: unigrad train [RECIPE] [--section.key VALUE ...]")
        commands.add_parser("evaluate", help="measure a model: unigrad evaluate MODEL --suite paper")
        commands.add_parser("compare", help="train methods side by side: unigrad compare [RECIPE] --methods a,b,c")
        commands.add_parser("report", help="the paper's figures and tables of runs: unigrad report RUN [RUN ...]")
        commands.add_parser("algorithms", help="print Table 1, or the methods: every declaration as data")
        if arguments == ["--version"]:
            from unigrad.versions import version_lines

            sys.stdout.write("\n".join(version_lines()) + "\n")
            return 0
        if arguments and arguments[0] not in ("-h", "--help"):
            raise ConfigError(f"unknown option {arguments[0]!r}; see unigrad --help")
        parser.print_help()
        return 0
    except ConfigError as error:
        sys.stderr.write(f"unigrad: error: {error}\n")
        return 2
    except Exception as error:
        from unigrad.versions import untested

        for line in untested():
            error.add_note(f"not tested with {line}")
        raise


def _keep_dependencies_quiet() -> None:
    """What they deprecate is for those who call them: the tests make an error of it, the terminal is the user's."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Behind all other filters, so that one of the user's, or of the tests', comes first.
    warnings.filterwarnings("ignore", category=FutureWarning, append=True)


def _train(arguments: list[str]) -> int:
    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else DEFAULT_RECIPE
    parser = _train_parser(recipe if {"-h", "--help"} & set(arguments) else None)
    # Intermixed, so that the recipe may stand behind the options too.
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise _unknown_argument(unknown[0], ("resume", "dry-run", "plan"))
    options = vars(known)
    resume, recipe, dry_run = options.pop("resume"), options.pop("recipe"), options.pop("dry_run")
    plan = options.pop("plan")
    if resume and recipe:
        raise ConfigError(f"--resume {resume} takes its configuration from the run; leave out the recipe {recipe!r}")
    config = _resumed_config(resume, options) if resume else load_config(recipe or DEFAULT_RECIPE, options)

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.train import run, show_plan

    if plan:
        return show_plan(config)
    return run(config, resume=Path(resume) if resume else None, dry_run=dry_run)


def _resumed_config(run: str, overrides: dict[str, str]) -> Config:
    path = Path(run) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"--resume {run}: no run there (it has no config.yaml)")
    return load_config(str(path), overrides)


def _unknown_argument(argument: str, options: Sequence[str]) -> ConfigError:
    """`options` are the command's own, beside the keys."""
    name = argument.split("=", 1)[0].lstrip("-")
    keys = [*(key for key, _ in config_keys()), *options, "help"]
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
    parser.add_argument(
        "--plan", action="store_true", help="print parameters, memory, tokens and needs, before anything is downloaded"
    )
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

    lines = ["recipes, and the methods that each tunes (tiny-luffy, qwen2.5-math-7b-luffy-official, …):"]
    lines += [f"  {family:<28}{', '.join(methods)}" for family, methods in recipe_families().items()]
    lines += ["", "prompt templates:"]
    for name in template_names():
        template = prompt_template(name)
        lines.append(f"  {name:<12}{template.description}")
    return "\n".join(lines)


def _evaluate(arguments: list[str]) -> int:
    parser = _evaluate_parser()
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        name = unknown[0].split("=", 1)[0]
        if not name.startswith("-"):
            raise ConfigError(f"unexpected argument {name!r}; one MODEL is evaluated, on --suite A,B")
        raise parser.unknown_option(name)
    options = vars(known)
    options["stop"] = tuple(options["stop"]) if options["stop"] else None
    model, suite, rescore = (options.pop(name) for name in ("model", "suite", "rescore"))
    out, data, against = (Path(text) if (text := options.pop(name)) else None for name in ("out", "data", "against"))

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.evaluate.evaluation import evaluate
    from unigrad.evaluate.protocol import Protocol

    return evaluate(model, suite, Protocol(**options), out=out, data=data, rescore=rescore, against=against)


def _evaluate_parser() -> _Parser:
    from unigrad.evaluate.protocol import MAX_COMPLETION_LENGTH, Protocol
    from unigrad.evaluate.suites import BENCHMARKS, SUITES

    defaults = Protocol()
    suites = "\n".join(f"  {name:<14}{', '.join(benchmarks)}" for name, benchmarks in SUITES.items())
    own = "\n".join(
        f"  {benchmark.name:<14}{benchmark.title}, avg@{benchmark.samples}" for benchmark in BENCHMARKS.values()
    )
    parser = _Parser(
        prog="unigrad evaluate",
        usage="unigrad evaluate MODEL --suite NAME|PATH[,...] [--data DIR] [--out DIR] [options]",
        description="Sample completions of benchmark problems, verify them, and tabulate accuracy with intervals over\n"
        "the problems and pass@k. What was stopped or killed goes on with the same command; what is there is not\n"
        "sampled again. The defaults are the paper's protocol (§4.1).",
        epilog=f"suites:\n{suites}\n\nbenchmarks:\n{own}\n\n"
        "Written to --out: settings.json; completions/NAME.jsonl, every completion with its verdict; results.json.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a folder, a hub id, a .gguf file, or `tiny`, the embedded base model")
    add("--suite", required=True, metavar="NAME|PATH", help="suites, benchmarks and problem files, with commas")
    add("--data", metavar="DIR", help="local copies, NAME.jsonl(.gz) or .parquet, before the hub's; or the one file")
    add("--out", metavar="DIR", help="where it all goes (default: evaluations/MODEL-SUITE)")
    add("--against", metavar="DIR", help="then compare, problem by problem, with a finished evaluation (Table 4)")
    add("--rescore", action="store_true", help="verify the saved completions again, without the model")
    add("--limit", type=int, metavar="N", help="only the first N problems of each benchmark")
    add("--samples", type=int, metavar="K", help="samples of each problem (default: the benchmark's own)")
    add("--temperature", type=float, default=defaults.temperature, help="0: greedy (default: %(default)s)")
    add("--top-p", type=float, default=defaults.top_p, help="nucleus; 1: off (default: %(default)s)")
    add(
        "--max-completion-length", type=int, metavar="TOKENS",
        help=f"longer ones are truncated (default: {MAX_COMPLETION_LENGTH}, or what the model's positions leave)",
    )  # fmt: skip
    add(
        "--prompt-template", default=defaults.prompt_template, metavar="NAME|TEXT",
        help="a template of `unigrad train --help`, or a text with {problem} "
        "(default: that of the run that MODEL lies in; else plain for tiny, chat_boxed if the tokenizer has a chat "
        "template, chat if that asks for the box itself, or boxed)",
    )  # fmt: skip
    add(
        "--stop", action="append", metavar="TEXT",
        help="a string that ends a completion; may be given again (default: those of the run that MODEL lies in)",
    )  # fmt: skip
    add(
        "--no-box", choices=get_args(NoBox),
        help="what a completion without a box is judged by (default: as MODEL's run has it, else last_number)",
    )  # fmt: skip
    add("--seed", type=int, default=defaults.seed, help="of every completion (default: %(default)s)")
    add("--device", default=defaults.device, help="cuda, mps, cpu, or auto (default: %(default)s)")
    add("--dtype", default=defaults.dtype, help="float32, bfloat16, or auto: bfloat16 on cuda (default: %(default)s)")
    add(
        "--max-concurrent-tokens", type=int, default=defaults.max_concurrent_tokens, metavar="TOKENS",
        help="prompts and completions whose keys and values are held at once (default: %(default)s)",
    )  # fmt: skip
    add("--rope-theta", type=float, help="base of the rotary embedding, in place of the model's own")
    add("--max-position-embeddings", type=int, metavar="TOKENS", help="positions, in place of the model's own limit")
    return parser


def _compare(arguments: list[str]) -> int:
    known, unknown = _compare_parser().parse_known_intermixed_args(arguments)
    if unknown:
        raise _unknown_argument(unknown[0], ("methods", "seeds", "first-seed", "out", "jobs"))
    overrides = vars(known)
    recipe, methods, out = (overrides.pop(name) for name in ("recipe", "methods", "out"))
    seeds, first_seed, jobs = (overrides.pop(name) for name in ("seeds", "first_seed", "jobs"))
    for option, number, least in (("--seeds", seeds, 1), ("--first-seed", first_seed, 0), ("--jobs", jobs, 1)):
        if number is not None and number < least:
            raise ConfigError(f"{option} {number}: must be at least {least}")

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.compare.comparison import compare

    folder = Path(out or f"runs/compare-{Path(recipe).stem}")
    return compare(recipe, methods, range(first_seed, first_seed + seeds), folder, jobs, overrides)


def _compare_parser() -> argparse.ArgumentParser:
    from unigrad.compare.sets import DEFAULT_SET, SETS

    sets = "\n".join(f"  {name:<12}{', '.join(methods)}" for name, methods in SETS.items())
    parser = _Parser(
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
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        default=DEFAULT_FAMILY,
        help=f"a bundled recipe or a YAML path; its section `methods` says what changes under each ({DEFAULT_FAMILY})",
    )
    parser.add_argument(
        "--methods", default=DEFAULT_SET, help="methods and sets of them, with commas (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="K", help="seeds of each method, K of them (default: %(default)s)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="S", help="the first of them; search on others (default: 0)"
    )
    parser.add_argument("--out", metavar="DIR", help="where runs and results go (default: runs/compare-RECIPE)")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at once (default: one a GPU; without one, one a core)"
    )
    for key, _ in config_keys():
        parser.add_argument(f"--{key}", dest=key, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _report(arguments: list[str]) -> int:
    parser = _Parser(
        prog="unigrad report",
        usage="unigrad report RUN [RUN ...] [--out report.html]",
        description="Draw the paper's figures and tables from runs, finished or not, into one HTML file, with a\n"
        "browser of their rollouts. Runs that differ in their seed alone become one line with a band.",
        epilog="Written: FILE, which needs no network; and in the folder of its name each figure as PNG and SVG.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        type=Path,
        help="a run's folder, the folder of an `unigrad compare` (all its runs), or that of an `unigrad evaluate`",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("report.html"), help="the page (default: report.html)"
    )
    parser.add_argument(
        "--max-megabytes",
        metavar="N",
        type=float,
        default=20.0,
        help="of rollouts in the page; where not all fit, steps and questions are left out evenly (default: 20)",
    )
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise parser.unknown_option(unknown[0])
    if not options.max_megabytes > 0:
        raise ConfigError(f"--max-megabytes {options.max_megabytes:g}: must be above 0")

    from unigrad.report.report import report

    return report(options.runs, options.out, options.max_megabytes)


def _algorithms(arguments: list[str]) -> int:
    parser = _Parser(prog="unigrad algorithms", description="Table 1: every algorithm as its four parts.")
    parser.add_argument("--methods", action="store_true", help="the methods instead: what each question trains on")
    parser.add_argument("--json", action="store_true", help="as data")
    options = parser.parse_args(arguments)

    from unigrad.estimator import algorithm, algorithm_names
    from unigrad.hybrid import METHODS

    if options.methods:
        rows = [row for method in METHODS.values() for row in method.rows()]
    else:
        rows = [algorithm(name).row() for name in algorithm_names()]
    if options.json:
        sys.stdout.write(json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
    elif options.methods:
        _print_table("(α, β) = (f(P), g(P))", _METHOD_COLUMNS, [_method_cells(row) for row in rows])
    else:
        _print_table("grad = 1_stable · (1/π_ref) · Â · ∇π_θ", _ALGORITHM_COLUMNS, rows)
    return 0


_ALGORITHM_COLUMNS = {
    "name": "algorithm",
    "reference": "π_ref",
    "advantage": "Â",
    "mask": "mask",
    "estimator": "estimator",
    "source": "source",
}
_METHOD_COLUMNS = {
    "name": "method",
    "gate": "gate",
    "on_policy": "on rollouts",
    "offline": "on demonstrations",
    "description": "description",
}


def _method_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A stage of a method as the table shows it: only what is not the ordinary case."""
    options = ", ".join(f"{key} {value}" for key, value in row["gate_options"].items() if key != "table")
    extras = [options, *(row[key] for key, usual in (("across", "own"), ("schedule", "constant")) if row[key] != usual)]
    offline = " + ".join(name if weight == 1 else f"{weight}·{name}" for name, weight in row["offline"].items())
    return {
        "name": row["name"] if row["share"] == 1 else f"{row['name']} ({row['share']:.0%})",
        "gate": ", ".join(filter(None, [row["gate"], *extras])),
        "on_policy": row["on_policy"] or "–",
        "offline": offline or "–",
        "description": row["description"],
    }


def _print_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    Console().print(table)
