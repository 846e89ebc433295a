"""A run whose ranks Ray starts, and starts again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import train
from safetensors.torch import load_file
from test_on_ranks import command, finish, rollouts

from unigrad.cli.train import RANKS_START


def test_what_does_not_fit_together_is_one_line(tmp_path: Path) -> None:
    run = command(tmp_path / "run")
    assert "--workers is of --launcher ray" in finish([*run, "--workers", "2"], code=2)
    assert "did you mean 'ray'?" in (said := finish([*run, "--launcher", "rey", "--workers", "2"], code=2))
    assert RANKS_START in said
    assert "give the number of ranks, at least 1" in finish([*run, "--launcher", "ray"], code=2)
    said = train(2, tmp_path, [*run, "--launcher", "ray", "--workers", "2"], codes=[2, 2])
    assert said.count("--launcher ray starts the ranks itself; leave out torchrun") == 1


def test_without_ray_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [folder for folder in sys.path if not (Path(folder or ".") / "ray").is_dir()]
    monkeypatch.setattr(sys, "path", found)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    said = finish([*command(tmp_path / "run"), "--launcher", "ray", "--workers", "2"], code=2)
    assert said == "unigrad: error: --launcher ray needs Ray: pip install 'unigrad[ray]'\n"


def test_a_run_whose_worker_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs unigrad[ray]")
    (tmp_path / "reward_of_ray.py").write_text(
        "import os, pathlib, signal\n\n\ndef reward(completions, trainer_state):\n"
        "    mark = pathlib.Path(__file__).with_name('died')\n"
        "    if os.environ.get('DIES') and os.environ['RANK'] == '1' and trainer_state.global_step == 2:\n"
        "        if not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return [float(len(each) % 2) for each in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    changes = {"verify__reward_function": "reward_of_ray.reward", "train__max_steps": 3, "train__eval_steps": 0}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(2, tmp_path, command(whole, **changes))
    done = subprocess.run(
        [sys.executable, "-m", "unigrad", *command(broken, **changes), "--launcher", "ray", "--workers", "2"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "DIES": "1"}, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "died").exists()
    assert rollouts(broken, 3) == rollouts(whole, 3)
    expected = load_file(whole / "final" / "model.safetensors")
    found = load_file(broken / "final" / "model.safetensors")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
