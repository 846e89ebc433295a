"""Weights & Biases, an optional package: the metrics under the names of metrics.jsonl, by their step."""

from __future__ import annotations

import importlib.util
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unigrad.config import Config
from unigrad.errors import ConfigError, one_line
from unigrad.runs.folder import WANDB_ID_FILE
from unigrad.runs.metrics import Metric


def check_installed() -> None:
    """Raises ConfigError where the package is missing."""
    spec = importlib.util.find_spec("wandb")
    # A folder `wandb`, which the package leaves wherever it runs, is found too: as a namespace without an origin.
    if spec is None or spec.origin is None:
        raise ConfigError("train.wandb = true: wandb is not installed; pip install 'unigrad[wandb]'")


class WandbRun:
    """The W&B run that belongs to a run folder; a resumed run goes on with the same one.

    Where it logs to, and whether at all, is for W&B's own variables to say (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE).
    What a resumed run does again is dropped there: its steps only grow.

    Raises:
        ConfigError: W&B does not let it start, such as without an API key.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        import wandb

        path = folder / WANDB_ID_FILE
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        try:
            self._run: Any = wandb.init(
                id=path.read_text(encoding="utf-8").strip(),
                name=folder.name,
                dir=folder,
                config=config.model_dump(mode="json"),
                resume="allow",
                # The progress bar is no log.
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise ConfigError(f"train.wandb = true: {one_line(error)}") from error

    def log(self, metrics: Mapping[str, float | int]) -> None:
        finite = {key: value for key, value in metrics.items() if key != Metric.STEP and math.isfinite(value)}
        self._run.log(finite, step=int(metrics[Metric.STEP]))

    def finish(self) -> None:
        self._run.finish()
