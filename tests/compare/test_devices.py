"""Runs of a comparison over the GPUs of a machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unigrad.compare.devices import gpus
from unigrad.compare.plan import plan
from unigrad.compare.runs import train


def test_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus("auto") == gpus("cuda") == ("0", "1")
    assert gpus("cpu") == gpus("cuda:1") == gpus("mps") == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-ab,7")
    assert gpus("auto") == ("5", "GPU-ab")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert gpus("auto") == ()


@pytest.mark.parametrize(("jobs", "spread"), [(2, {"5": 2, "7": 2}), (4, {"5": 2, "7": 2}), (1, {"5": 4})])
def test_each_run_is_given_the_gpu_with_the_fewest(
    jobs: int, spread: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program in Python's place that says which one it sees."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho sees $CUDA_VISIBLE_DEVICES\nsleep 0.5\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    said: list[str] = []
    runs = plan("tiny", ("hpt", "sft"), range(2), tmp_path / "out").runs
    outcome = train(runs, jobs, 1, ("5", "7"), said.append)
    assert len(outcome.failed) == 4
    seen = re.findall(r"sees (\S+)", "\n".join(said))
    assert {gpu: seen.count(gpu) for gpu in seen} == spread
