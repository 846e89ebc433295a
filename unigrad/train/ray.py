"""The same run on ranks that Ray Train starts, and starts again from the last checkpoint where one of them is lost."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from unigrad.config import Config, load_config
from unigrad.errors import ConfigError, UserCodeError
from unigrad.policy.loading import choose_device
from unigrad.runs.folder import CONFIG_FILE, is_finished, is_started
from unigrad.train.claim import fresh
from unigrad.train.run import run
from unigrad.world import speaks_first

_ATTEMPTS = 3
"""How often the ranks are started again, at most."""


def run_on_ray(config: Config, workers: int, *, resume: Path | None) -> int:
    """As `run`, on so many ranks. The run's folder must be one that all of them reach."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = (resume or Path(config.output_dir)).absolute()
    if resume is None:
        fresh(config, folder)
    on_gpus = choose_device(config.model.device).type == "cuda"
    given = {"config": config.dump(), "folder": str(folder), "here": str(Path.cwd())}
    seconds = max(1, round(config.ranks.timeout_seconds))
    with tempfile.TemporaryDirectory(prefix="unigrad-ray-") as storage:
        TorchTrainer(
            _rank,
            train_loop_config=given,
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout_s=seconds),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus),
            run_config=RunConfig(
                name="unigrad", storage_path=storage, failure_config=FailureConfig(max_failures=_ATTEMPTS)
            ),
        ).fit()
    return 0 if is_finished(folder) else 1


def _rank(given: dict[str, Any]) -> None:
    """One rank's part, on the machine where Ray started it.

    What a restart would meet again is said, and the rank ends. Raises RuntimeError where another rank is lost.
    """
    os.chdir(given["here"])
    folder = Path(given["folder"])
    try:
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / CONFIG_FILE
            file.write_text(given["config"], encoding="utf-8")
            config = load_config(str(file), {"output_dir": str(folder)})
        code = run(config, resume=folder if is_started(folder) else None)
    except (ConfigError, UserCodeError) as error:
        if speaks_first():
            sys.stderr.write(f"{error}\n" if isinstance(error, UserCodeError) else f"unigrad: error: {error}\n")
        return
    if code and speaks_first():
        raise RuntimeError("a rank was lost")
