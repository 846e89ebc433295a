from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from unigrad.config import load_config
from unigrad.runs import folder
from unigrad.versions import environment


def test_a_runs_models_by_the_names_of_their_folders() -> None:
    run = Path("runs", "mine")
    assert folder.is_saved_model(folder.final_model(run))
    assert folder.is_saved_model(folder.checkpoint(run, 40))
    assert folder.checkpoint_step(folder.checkpoint(run, 40)) == 40
    assert not any(folder.is_saved_model(run / name) for name in ("finally", "checkpoint-", "checkpoint-last", ""))


def test_a_run_is_started_by_its_configuration_and_finished_by_its_model(tmp_path: Path) -> None:
    assert not folder.is_started(tmp_path)
    config = load_config("tiny-hpt", {"train.seed": "7"})
    folder.write_origin(tmp_path, config)
    assert folder.is_started(tmp_path)
    assert not folder.is_finished(tmp_path)
    assert load_config(str(tmp_path / folder.CONFIG_FILE)) == config
    assert folder.read_environment(tmp_path) == environment()
    folder.final_model(tmp_path).mkdir()
    assert folder.is_finished(tmp_path)


def test_the_readers_never_import_torch() -> None:
    """So that reports and tables do not wait for it."""
    names = "runs.folder", "runs.metrics", "runs.rollouts", "runs.checkpoints", "stats.accuracies", "stats.bootstrap"
    modules = "\n".join(f"import unigrad.{name}" for name in names)
    code = f"import sys\n{modules}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
