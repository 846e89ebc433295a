"""`unigrad algorithms`: every declaration, printed or as data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from unigrad.cli import plugins
from unigrad.cli.parser import Parser

_ALGORITHM_COLUMNS = {
    "name": "algorithm",
    "reference": "π_ref",
    "advantage": "Â",
    "mask": "mask",
    "estimator": "estimator",
    "source": "source",
}
_OPTIONAL_COLUMNS = {"option": "option", "part": "part", "algorithms": "algorithms"}
_METHOD_COLUMNS = {
    "name": "method",
    "gate": "gate",
    "on_policy": "on rollouts",
    "offline": "on demonstrations",
    "description": "description",
}


def run(arguments: list[str]) -> int:
    plugins.load(arguments)
    options = parser().read(arguments, "options alone follow")

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
        _print_table("what is off until its option is given", _OPTIONAL_COLUMNS, _optional_rows(rows))
    return 0


def parser() -> Parser:
    parser = Parser(prog="unigrad algorithms", description="Table 1: every algorithm as its four parts.")
    parser.add_argument("--methods", action="store_true", help="the methods instead: what each question trains on")
    parser.add_argument("--json", action="store_true", help="as data")
    parser.add_argument(plugins.OPTION, metavar="MODULE[,...]", help=plugins.HELP)
    return parser


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


def _optional_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Each part that some algorithms can wear, with their names."""
    wearers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for each in row["optional"].items():
            wearers.setdefault(each, []).append(row["name"])
    return [{"option": option, "part": part, "algorithms": ", ".join(of)} for (option, part), of in wearers.items()]


def _print_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    Console().print(table)
