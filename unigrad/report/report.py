"""From run folders to a page and figure files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from unigrad.errors import ConfigError, one_line
from unigrad.files import check_folder, replace_text
from unigrad.live import LiveConsole
from unigrad.report.evaluations import Evaluation, find_evaluations
from unigrad.report.needs import check_installed
from unigrad.report.runs import Run, find_runs, gather

SUFFIXES = (".html", ".htm")


def report(paths: Sequence[Path], out: Path, max_megabytes: float) -> int:
    """`make_report`, for a command line: what goes wrong with the writing is said. Returns the exit code (see
    `cli.main`)."""
    console = LiveConsole()
    read = _read(paths, out, console)
    try:
        _write(*read, out, max_megabytes, console)
    except OSError as error:
        console.print(f"unigrad: error: {one_line(error)}", markup=False, soft_wrap=True)
        return 1
    return 0


def make_report(paths: Sequence[Path], out: Path, max_megabytes: float, console: Console) -> None:
    """Report on these folders of runs, comparisons and evaluations.

    The page goes to `out`, with at most `max_megabytes` of rollouts in it; the figures also as PNG and SVG into the
    folder of the same name without its ending.

    Raises ConfigError on anything that is wrong with the input, before anything is written, and OSError on what cannot
    be written.
    """
    _write(*_read(paths, out, console), out, max_megabytes, console)


def _read(paths: Sequence[Path], out: Path, console: Console) -> tuple[Sequence[Run], Sequence[Evaluation]]:
    check_installed("report")
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: must end in {' or '.join(SUFFIXES)}; did you mean {out}.html?")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder, not a file")
    check_folder(out.with_suffix(""), f"--out {out}: {out.with_suffix('')}")
    evaluations = find_evaluations(paths)
    evaluated = {evaluation.folder.resolve() for evaluation in evaluations}
    runs = find_runs([path for path in paths if path.resolve() not in evaluated])
    for run in runs:
        if not run.lines:
            console.print(f"{run.folder}: no metrics yet", markup=False, soft_wrap=True)
    return runs, evaluations


def _write(
    runs: Sequence[Run], evaluations: Sequence[Evaluation], out: Path, max_megabytes: float, console: Console
) -> None:
    # Only now: drawing costs a second, and every error of the input is found before it.
    from unigrad.report.contents import assemble
    from unigrad.report.drawing import write
    from unigrad.report.page import render

    contents = assemble(gather(runs), evaluations, round(max_megabytes * 1e6))
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {drawn.name: write(drawn, folder) for drawn in contents.figures}
    replace_text(out, render(contents, pictures))
    console.print(
        f"written: {out} ({out.stat().st_size / 1e6:.1f} MB), {out.with_suffix('')}/", markup=False, soft_wrap=True
    )
