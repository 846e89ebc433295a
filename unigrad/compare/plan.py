"""What is to be trained: a validated configuration and a folder for each method and seed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unigrad.config import Config, changed_keys, load_config
from unigrad.errors import ConfigError
from unigrad.files import check_folder
from unigrad.runs.folder import CONFIG_FILE, METRICS_FILE, is_finished, is_started
from unigrad.runs.metrics import measure

RESERVED = {"output_dir": "--out", "method.name": "--methods", "train.seed": "--seeds and --first-seed"}
"""Keys that a comparison sets itself, and the options that say how."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    method: str
    seed: int
    folder: Path
    config: Config

    @property
    def name(self) -> str:
        return f"{self.method} seed {self.seed}"

    @property
    def config_file(self) -> Path:
        """What the run is started from."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log(self) -> Path:
        """What the run prints, over all its attempts."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_started(self) -> bool:
        return is_started(self.folder)

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)


@dataclass(frozen=True, slots=True)
class Comparison:
    """runs: seed by seed, so that what is there after a while compares all methods on the same seeds."""

    recipe: str
    methods: tuple[str, ...]
    seeds: range
    overrides: Mapping[str, str]
    runs: tuple[PlannedRun, ...]

    def command(self, *more: str) -> str:
        """The command line that asks for this comparison, with `more` options of how it is run."""
        first = ["--first-seed", str(self.seeds.start)] if self.seeds.start else []
        keys = [text for key, value in self.overrides.items() for text in (f"--{key}", value)]
        methods = ["--methods", ",".join(self.methods), "--seeds", str(len(self.seeds)), *first]
        return shlex.join(["unigrad", "compare", self.recipe, *methods, *more, *keys])


def plan(
    recipe: str, methods: Sequence[str], seeds: range, out: Path, overrides: Mapping[str, str] | None = None
) -> Comparison:
    """The runs of these methods and seeds under `out`, each configuration validated.

    A run's seed is also that of the embedded problems where it trains on them, unless the overrides say otherwise.
    Raises ConfigError where a configuration is wrong, nothing is held out, or `out` holds another configuration's run.
    """
    overrides = dict(overrides or {})
    for key, option in RESERVED.items():
        if key in overrides:
            raise ConfigError(f"--{key} differs between the runs of a comparison; it is given by {option}")
    runs = []
    for seed in seeds:
        for method in methods:
            folder = out / method / f"seed-{seed}"
            own = {"method.name": method, "train.seed": str(seed), "output_dir": str(folder)}
            config = load_config(recipe, {**overrides, **own})
            if config.data.train == "tiny" and "tiny.seed" not in overrides:
                config = load_config(recipe, {**overrides, **own, "tiny.seed": str(seed)})
            if config.data.eval is None or not config.train.eval_steps:
                key = "data.eval = null" if config.data.eval is None else "train.eval_steps = 0"
                raise ConfigError(f"{key}: a comparison is of accuracies on held-out problems")
            runs.append(PlannedRun(method, seed, folder, config))
    for run in runs:
        _check_same(run)
    return Comparison(recipe, tuple(methods), seeds, overrides, tuple(runs))


def _check_same(run: PlannedRun) -> None:
    check_folder(run.folder, f"--out: {run.folder}")
    if not run.is_started:
        if run.is_finished:
            raise ConfigError(
                f"{run.folder} holds a trained model and no {CONFIG_FILE}, so nothing says of what run; move it away"
            )
        return
    before = load_config(str(run.folder / CONFIG_FILE))
    # The folder's own name may differ: runs may be moved, or reached by another path.
    changed = changed_keys(before, run.config, ignoring=("output_dir",))
    if changed:
        old, new = before.flat()[changed[0]], run.config.flat()[changed[0]]
        raise ConfigError(
            f"{run.folder} holds a run whose {changed[0]} was {old!r} and is now {new!r}; "
            "give another folder with --out"
        )
    # Damage shows now, not when all the others are trained.
    if run.is_finished and measure(run.folder) is None:
        raise ConfigError(
            f"{run.folder / METRICS_FILE} holds no accuracy, and the run is finished; move {run.folder} away"
        )
