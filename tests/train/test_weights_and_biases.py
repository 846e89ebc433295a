"""What goes to Weights & Biases: by a stand-in for the package, and by the package itself where it is installed."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from unigrad.cli import main
from unigrad.config import ConfigError, load_config
from unigrad.train.records import Records
from unigrad.train.weights_and_biases import WandbRun, check_installed

INSTALLED = importlib.util.find_spec("wandb") is not None


class StandIn(types.ModuleType):
    """wandb, as far as we use it."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.problem = ""

    def init(self, **options: Any) -> StandIn:
        if self.problem:
            raise self.Error(self.problem)
        self.started.append(options)
        return self

    def Settings(self, **settings: str) -> dict[str, str]:
        return settings

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_the_same_names_by_step_and_a_resumed_run_goes_on_with_the_same_id(wandb: StandIn, tmp_path: Path) -> None:
    config = load_config("tiny-hpt")
    folder = tmp_path / "mine"
    for step in (1, 2):
        records = Records(folder, step, False, WandbRun(folder, config))
        records.metrics({"step": step, "reward/mean": 0.5, "loss": math.nan})
        records.close()
    assert wandb.logged == [(1, {"reward/mean": 0.5}), (2, {"reward/mean": 0.5})]
    assert wandb.finished == 2
    first, second = wandb.started
    assert first["id"] == second["id"] == (folder / "wandb-run-id").read_text().strip()
    assert (first["name"], first["resume"], first["dir"]) == ("mine", "allow", folder)
    assert first["config"]["method"]["name"] == "hpt"


def test_what_it_refuses_is_one_line(wandb: StandIn, tmp_path: Path) -> None:
    wandb.problem = "api_key not configured\n(no-tty)"
    with pytest.raises(ConfigError, match=r"^train.wandb = true: api_key not configured \(no-tty\)$"):
        WandbRun(tmp_path, load_config("tiny-hpt"))


@pytest.mark.parametrize("spec", [None, ModuleSpec("wandb", None)])
def test_where_it_is_missing_the_run_does_not_start(
    spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder `wandb` in the working directory is no package."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(ConfigError, match="wandb is not installed"):
        check_installed()
    assert main(["train", "tiny-hpt", "--train.wandb", "true", "--output_dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "unigrad: error: train.wandb = true: wandb is not installed; pip install 'unigrad[wandb]'\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not INSTALLED, reason="wandb is not installed (pip install 'unigrad[wandb]')")
def test_an_offline_run_and_its_resumption_hold_our_names(tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = {
        "train.wandb": "true", "tiny.train_problems": "8", "tiny.eval_problems": "4", "train.questions_per_step": "4",
        "rollout.num_generations": "2", "rollout.max_completion_length": "16", "train.max_steps": "2",
        "train.save_steps": "1", "train.lr_scheduler_type": "constant", "output_dir": str(run),
    }  # fmt: skip
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    options = [text for key, value in keys.items() for text in (f"--{key}", value)]
    command = [sys.executable, "-m", "unigrad", "train"]
    for arguments in (["tiny-hpt", *options], ["--resume", str(run), "--train.max_steps", "3"]):
        subprocess.run([*command, *arguments], env=environment, check=True, cwd=tmp_path, timeout=300)
    name = (run / "wandb-run-id").read_text().strip()
    logs = sorted((run / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert len(logs) == 2
    assert b"reward/mean" in logs[0].read_bytes()
    assert b"gate/offline_ratio" in logs[1].read_bytes()
