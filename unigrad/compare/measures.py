"""The numbers of a comparison's runs."""

from __future__ import annotations

from collections.abc import Sequence

from unigrad.compare.plan import PlannedRun
from unigrad.measure.metrics import Measured, measure


def measure_all(runs: Sequence[PlannedRun]) -> dict[str, dict[int, Measured]]:
    """The finished runs' numbers by method and seed; every method is there, even with none."""
    measured: dict[str, dict[int, Measured]] = {run.method: {} for run in runs}
    for run in runs:
        found = measure(run.folder) if run.is_finished else None
        if found:
            measured[run.method][run.seed] = found
    return measured
