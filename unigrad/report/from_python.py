"""`unigrad.report(…)`: the paper's figures and tables of runs, from Python. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unigrad.live import LiveConsole

DEFAULT_PAGE, DEFAULT_MEGABYTES = Path("report.html"), 20.0


def report(runs: Any, out: str | Path = DEFAULT_PAGE, *, max_megabytes: float = DEFAULT_MEGABYTES) -> Path:
    """Draw the figures and tables of runs, comparisons and evaluations into one page, as `unigrad report` does.

    runs: a folder or a `unigrad.Run`, or several of them. Returns the page's path.
    Raises ConfigError (a ValueError) on anything that is wrong with the input, and OSError on what cannot be written.
    """
    from unigrad.report.report import make_report

    several: list[Any] = list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    make_report([Path(getattr(each, "folder", each)) for each in several], Path(out), max_megabytes, LiveConsole())
    return Path(out)
