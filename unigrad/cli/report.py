"""`unigrad report`: the paper's figures and tables of runs."""

from __future__ import annotations

import math
from pathlib import Path

from unigrad.cli.parser import Parser, given_path
from unigrad.errors import ConfigError


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
    add("--out", metavar="FILE", type=given_path, default=Path("report.html"), help="the page (default: report.html)")
    add(
        "--max-megabytes", metavar="N", type=float, default=20.0,
        help="of rollouts in the page; where not all fit, steps and questions are left out evenly (default: 20)",
    )  # fmt: skip
    return parser
