"""What goes to Weights & Biases, by its own package in its offline mode."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import wandb

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.errors import ConfigError
from unigrad.runs.records import Records
from unigrad.runs.weights_and_biases import WandbRun, check_installed


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """The package reads its variables once a process."""
    yield
    wandb.teardown()


def test_the_same_names_and_a_resumed_run_goes_on_with_the_same_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = load_config("tiny-hpt")
    folder = tmp_path / "mine"
    ids = []
    for step in (1, 3):
        run = WandbRun(folder, config)
        records = Records(folder, step, False, run)
        try:
            # A step is complete for W&B when the next one comes.
            for number in (step, step + 1):
                records.metrics({"step": number, "reward/mean": 0.5, "loss": math.nan})
            summary = dict(run._run.summary)
            ids.append((run._run.id, run._run.name))
        finally:
            records.close()
        assert (summary["reward/mean"], summary["_step"]) == (0.5, step)
        assert "loss" not in summary
        assert run._run.config["method"]["name"] == "hpt"
    name = (folder / "wandb-run-id").read_text().strip()
    assert ids == [(name, "mine")] * 2


def test_what_it_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, and nobody to ask for one."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^train.wandb = true: No API key configured[^\n]*$"):
        WandbRun(tmp_path, load_config("tiny-hpt"))


@pytest.mark.parametrize("spec", [None, ModuleSpec("wandb", None)])
def test_where_it_is_missing_the_run_does_not_start(
    spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder `wandb` in the working directory is no package."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *package: spec if name == "wandb" else found(name, *package)
    )
    with pytest.raises(ConfigError, match="wandb is not installed"):
        check_installed()
    assert main(["train", "tiny-hpt", "--train.wandb", "true", "--output_dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "unigrad: error: train.wandb = true: wandb is not installed; pip install 'unigrad[wandb]'\n"
    )
    assert not (tmp_path / "run").exists()


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
