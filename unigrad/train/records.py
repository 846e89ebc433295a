"""What a run writes as it goes: metrics.jsonl, the same to TensorBoard and W&B, and the rollout files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from unigrad.files import replace_text
from unigrad.measure.metrics import METRICS_FILE, ROLLOUTS_FOLDER
from unigrad.train.weights_and_biases import WandbRun


class Records:
    """The run directory's records. Opened at `first_step`, they forget what a killed attempt wrote from there on."""

    def __init__(self, run: Path, first_step: int, tensorboard: bool, wandb: WandbRun | None = None) -> None:
        self._run = run
        (run / ROLLOUTS_FOLDER).mkdir(parents=True, exist_ok=True)
        _forget_from(run / METRICS_FILE, first_step)
        self._metrics = (run / METRICS_FILE).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step) if tensorboard else None
        self._wandb = wandb

    def metrics(self, metrics: Mapping[str, float | int]) -> None:
        """One object, one line; a non-finite number is written as null, since JSON has none."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        if self._board:
            for key, value in metrics.items():
                if key != "step":
                    self._board.add_scalar(key, value, int(metrics["step"]))
            self._board.flush()
        if self._wandb:
            self._wandb.log(metrics)

    def rollouts(self, step: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """The step's trajectories, replacing what an earlier attempt at this step left."""
        path = self._run / ROLLOUTS_FOLDER / f"{step:06d}.jsonl"
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            # A decoded completion may hold a lone surrogate; it must not end the run.
            file.writelines(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
        partial.replace(path)

    def close(self) -> None:
        self._metrics.close()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def _forget_from(path: Path, step: int) -> None:
    """Keep the lines of the steps before `step`; a line cut off by a kill goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] < step:
                kept.append(line + "\n")
        except json.JSONDecodeError:
            break
    replace_text(path, "".join(kept))
