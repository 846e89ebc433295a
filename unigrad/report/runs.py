"""The runs to report on: found, read, and gathered into the lines of a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from unigrad.config import RESUMABLE_CHANGES, flatten, read_yaml
from unigrad.config.keys import known_part, validate
from unigrad.errors import ConfigError, nearest
from unigrad.files import Text, read_json, read_text
from unigrad.hybrid.methods import METHODS
from unigrad.runs.folder import CONFIG_FILE, is_started
from unigrad.runs.metrics import RunMetrics

COMPARISON_FILE = "comparison.json"
SEED_KEYS = ("train.seed", "tiny.seed")
BY_METHOD = ("method.name", *SEED_KEYS, *RESUMABLE_CHANGES)
"""Keys that say nothing about how one run of a method differs from another."""
LONGEST_SETTINGS = 32
"""Letters of what stands behind a method's name in a legend."""


class _Comparison(BaseModel):
    methods: list[Text]


_COMPARISON = TypeAdapter(_Comparison)


@dataclass(frozen=True, eq=False)
class Run(RunMetrics):
    """A run, finished or not. keys: its configuration by dotted key, with today's defaults for what an older run did
    not know."""

    keys: Mapping[str, Any]

    @property
    def method(self) -> str:
        return str(self.keys["method.name"])

    @property
    def seed(self) -> int:
        return int(self.keys["train.seed"])


@dataclass(frozen=True)
class Series:
    """Runs that differ in their seed alone: one line of a figure, one row of a table.

    settings: what tells them from the other runs of their method, where the label does not say it.
    """

    label: str
    runs: dict[int, Run] = field(default_factory=dict)
    settings: str = ""

    @property
    def first(self) -> Run:
        return next(iter(self.runs.values()))

    @property
    def method(self) -> str:
        return self.first.method

    def name(self, run: Run) -> str:
        return f"{self.label}, seed {run.seed}" if len(self.runs) > 1 else self.label


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of these folders, in order, each once; a comparison's folder stands for all its runs.

    Raises ConfigError on a path that is neither, naming the nearest that is, and on a configuration out of order.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        folders = [path] if is_started(path) else list(_compared(path))
        if not folders:
            raise ConfigError(f"{path}: no run and no comparison there{_nearest(path)}")
        for folder in folders:
            runs.setdefault(folder.resolve(), _read(folder))
    return list(runs.values())


def _compared(path: Path) -> Iterator[Path]:
    """The folders METHOD/seed-S of a comparison, in its order of methods where it has said one."""
    order: list[str] = []
    if (path / COMPARISON_FILE).exists():
        order = read_json(path / COMPARISON_FILE, _COMPARISON)["methods"]
    methods = sorted({config.parent.parent.name for config in path.glob(f"*/seed-*/{CONFIG_FILE}")})
    for method in sorted(methods, key=lambda name: order.index(name) if name in order else len(order)):
        seeds = (path / method).glob(f"seed-*/{CONFIG_FILE}")
        yield from sorted((config.parent for config in seeds), key=lambda folder: (len(folder.name), folder.name))


def _nearest(path: Path) -> str:
    """The folder of a run that the path may have meant: below it, or beside it with a similar name."""
    inside = sorted(config.parent for config in path.glob(f"*/{CONFIG_FILE}"))
    if inside:
        return f"; did you mean {path}/*, such as {inside[0]}?"
    beside = [str(config.parent) for config in path.parent.glob(f"*/{CONFIG_FILE}")]
    close = nearest(str(path), beside)
    return f"; did you mean {close}?" if close else f" (it has no {CONFIG_FILE})"


def _read(folder: Path) -> Run:
    path = folder / CONFIG_FILE
    tree = read_yaml(read_text(path), f"cannot read {path}")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: its top must be a mapping of sections")
    # An older run may have keys that went; what there still is must be what it can be.
    config = validate(known_part(tree), str(path))
    return Run(folder, {**dict(flatten(tree)), **config.flat()})


def gather(runs: Sequence[Run]) -> list[Series]:
    """The runs as series, in the order of their first runs.

    A series is named by its method, and where runs of one method differ in more than the seed, by what differs; where
    that is long, by a number.
    """
    series: dict[str, Series] = {}
    differing = {method: _differing([run for run in runs if run.method == method]) for method in _methods(runs)}
    settings = {run.folder: _settings(run, differing[run.method]) for run in runs}
    for run in runs:
        kinds = list(dict.fromkeys(settings[each.folder] for each in runs if each.method == run.method))
        own, is_short = settings[run.folder], all(len(kind) <= LONGEST_SETTINGS for kind in kinds)
        label = ", ".join(filter(None, (run.method, own))) if is_short else f"{run.method} {kinds.index(own) + 1}"
        if label in series and run.seed in series[label].runs:
            label = f"{label} ({run.folder})"
        series.setdefault(label, Series(label, settings="" if is_short else own)).runs[run.seed] = run
    return list(series.values())


def _settings(run: Run, differing: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {run.keys.get(key)}" for key, name in differing.items())


def _methods(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.method for run in runs))


def _differing(runs: Sequence[Run]) -> dict[str, str]:
    """The keys in which these runs differ, with the shortest name that tells each from the others."""
    keys = [
        key
        for key in runs[0].keys
        if key not in BY_METHOD and any(run.keys.get(key) != runs[0].keys[key] for run in runs)
    ]
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}


def gate_threshold(run: Run) -> float | None:
    """γ of HPT's switch gate; None for other methods, and under another gate."""
    own = METHODS[run.method].threshold if run.method in METHODS else None
    if own is None or run.keys["method.gate"] not in (None, "switch"):
        return None
    threshold = run.keys["method.threshold"]
    return own if threshold is None else float(threshold)
