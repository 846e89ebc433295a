"""`unigrad report`: the paper's figures and tables of runs."""

from __future__ import annotations

import math

from unigrad.cli.parser import Parser, given_path
from unigrad.errors import ConfigError
from unigrad.report.from_python import DEFAULT_MEGABYTES, DEFAULT_PAGE


def run(arguments: list[str]) -> int:
    options = parser().read(arguments, "the RUNs stand together")
    if not 0 < options.max_megabytes < math.inf:
        raise ConfigError(f"--max-megabytes {options.max_megabytes:g}: must be above 0, and a number")

    from unigrad.report.report import report

    return report(options.runs, options.out, options.max_megabytes)


def parser() -> Parser:
    parser = Parser(
        prog="unigrad report",
        usage="unigrad report RUN [RUN ...] [--out report.html]",
        description="Draw the paper's figures and tables from runs, finished or not, into one HTML file, with a\n"
        "browser of their rollouts. Runs that differ in their seed alone become one line with a band.",
        epilog="Written: FILE, which needs no network; and in the folder of its name each figure as PNG and SVG.",
    )
    add = parser.add_argument
    add(
        "runs", nargs="+", metavar="RUN", type=given_path,
        help="a run's folder, the folder of an `unigrad compare` (all its runs), or that of an `unigrad evaluate`",
    )  # fmt: skip
    add("--out", metavar="FILE", type=given_path, default=DEFAULT_PAGE, help="the page (default: %(default)s)")
    add(
        "--max-megabytes", metavar="N", type=float, default=DEFAULT_MEGABYTES,
        help="of rollouts in the page; where not all fit, steps and questions are left out evenly "
        "(default: %(default)g)",
    )  # fmt: skip
    return parser
