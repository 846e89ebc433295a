"""What a run writes as it goes: metrics.jsonl, the same to TensorBoard and W&B, and the rollout files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from unigrad.files import replace_text
from unigrad.runs.folder import METRICS_FILE, ROLLOUTS_FOLDER, TENSORBOARD_FOLDER, rollouts_file
from unigrad.runs.metrics import Metric, read_metrics
from unigrad.runs.rollouts import RolloutLine, write_rollouts
from unigrad.runs.weights_and_biases import WandbRun


class Records:
    """The run directory's records. Opened at `first_step`, they forget what a killed attempt wrote from there on."""

    def __init__(self, run: Path, first_step: int, tensorboard: bool, wandb: WandbRun | None = None) -> None:
        self._run = run
        (run / ROLLOUTS_FOLDER).mkdir(parents=True, exist_ok=True)
        _forget_from(run / METRICS_FILE, first_step)
        self._board = SummaryWriter(str(run / TENSORBOARD_FOLDER), purge_step=first_step) if tensorboard else None
        self._wandb = wandb

    def metrics(self, metrics: Mapping[str, float | int]) -> None:
        """One object, one line; a non-finite number is written as null, since JSON has none."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        # Opened for each: what a full disk did not take must not be tried again as the file is closed at the run's end.
        with (self._run / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board:
            for key, value in metrics.items():
                if key != Metric.STEP:
                    self._board.add_scalar(key, value, int(metrics[Metric.STEP]))
            self._board.flush()
        if self._wandb:
            self._wandb.log(metrics)

    def rollouts(self, step: int, lines: Iterable[RolloutLine]) -> None:
        """The step's trajectories."""
        write_rollouts(rollouts_file(self._run, step), lines)

    def close(self) -> None:
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def _forget_from(path: Path, step: int) -> None:
    """Keep the lines of the steps before `step`; a line cut off by a kill goes too."""
    if path.exists():
        kept = [line for line in read_metrics(path) if line[Metric.STEP] < step]
        replace_text(path, "".join(json.dumps(line) + "\n" for line in kept))
