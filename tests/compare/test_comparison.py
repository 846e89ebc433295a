"""Whole comparisons, as a user starts them: what they write, and that stopping one changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unigrad.cli import main

STEPS = 8
SMALL = {
    "train.max_steps": STEPS,
    "train.questions_per_step": 2,
    "train.eval_steps": STEPS,
    "train.tensorboard": False,
    "rollout.num_generations": 2,
    "rollout.max_completion_length": 24,
    "tiny.train_problems": 20,
    "tiny.eval_problems": 10,
}
KEYS = [text for key, value in SMALL.items() for text in (f"--{key}", str(value))]


def command(out: Path, methods: str = "hpt,sft", seeds: int = 2) -> list[str]:
    return ["compare", "tiny", "--methods", methods, "--seeds", str(seeds), "--out", str(out), "--jobs", "2", *KEYS]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "final" / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    others = weights(second)
    return all(torch.equal(tensor, others[name]) for name, tensor in weights(first).items())


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unstopped") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(command(out)) == 0
    assert output.getvalue().count("starts, see") == 4
    assert "held-out accuracy" in output.getvalue()
    assert "all runs ended" in output.getvalue()
    return out


def test_what_a_comparison_writes(unstopped: Path) -> None:
    data = json.loads((unstopped / "comparison.json").read_text(encoding="utf-8"))
    assert (data["recipe"], data["methods"], data["seeds"]) == ("tiny", ["hpt", "sft"], [0, 1])
    assert data["overrides"] == {key: str(value) for key, value in SMALL.items()}
    assert data["configuration"]["train.max_steps"] == STEPS
    changes = {"method.name": "sft", "train.seed": 1, "tiny.seed": 1, "train.learning_rate": 2.5e-4}
    assert data["changes"]["sft/seed-1"] == changes
    assert {"unigrad", "torch"} <= data["versions"].keys()
    assert [(run["method"], run["seed"], run["missing"]) for run in data["runs"]] == [
        ("hpt", 0, False), ("sft", 0, False), ("hpt", 1, False), ("sft", 1, False),
    ]  # fmt: skip
    for run in data["runs"]:
        assert run["steps"] == STEPS
        lines = (unstopped / run["method"] / f"seed-{run['seed']}" / "metrics.jsonl").read_text().splitlines()
        assert run["accuracy"] == json.loads(lines[-1])["eval/tiny/accuracy"]
        assert run["base"]["accuracy"] == json.loads(lines[0])["eval/tiny/accuracy"]
        assert (run["tokens_generated"] == 0) == (run["method"] == "sft")
    # The seeds differ in their problems, too; the methods of one seed start alike.
    assert data["runs"][0]["base"] == data["runs"][1]["base"]
    accuracy = data["statistics"]["methods"]["hpt"]["accuracies"]["accuracy"]
    assert accuracy["mean"] == pytest.approx((data["runs"][0]["accuracy"] + data["runs"][2]["accuracy"]) / 2)

    text = (unstopped / "comparison.md").read_text(encoding="utf-8")
    assert "    unigrad compare tiny --methods hpt,sft --seeds 2 --train.max_steps 8" in text
    assert "| method | accuracy, % | level 1 |" in text
    assert (unstopped / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_again_trains_nothing_and_prints_the_same(
    unstopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in unstopped.glob("*/**/*")}
    table = (unstopped / "comparison.md").read_bytes()
    assert main(command(unstopped)) == 0
    output = capsys.readouterr().out
    assert output.startswith("4 of 4 runs are there already\n")
    assert "starts" not in output
    assert "vs hpt" in output
    assert {path: path.stat().st_mtime_ns for path in unstopped.glob("*/**/*")} == before
    assert (unstopped / "comparison.md").read_bytes() == table
    assert main([*command(unstopped), "--rollout.temperature", "0.5"]) == 2
    assert "rollout.temperature was 1.0 and is now 0.5; give another folder with --out" in capsys.readouterr().err


def test_stopped_and_unfinished_runs_go_on_to_the_same_weights(
    unstopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    stopped, truncated = out / "hpt" / "seed-0", out / "hpt" / "seed-1"
    process = subprocess.Popen(
        [sys.executable, "-m", "unigrad", *command(out, "hpt", 1)], stdout=subprocess.PIPE, text=True
    )
    metrics = stopped / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"the same command goes on: unigrad compare tiny --methods hpt --seeds 1 --out {out} --jobs 2" in output
    assert "stopped and saved" in (out / "hpt" / "seed-0.log").read_text(encoding="utf-8")
    assert not (stopped / "final").exists()

    shutil.copytree(unstopped / "hpt" / "seed-1", truncated)
    shutil.rmtree(truncated / "final")
    shutil.rmtree(truncated / f"checkpoint-{STEPS}")
    shutil.copytree(unstopped / "sft", out / "sft")
    assert main(command(out)) == 0
    output = capsys.readouterr().out
    assert output.startswith("2 of 4 runs are there already\n")
    for run in (stopped, truncated):
        assert f"{run.parent.name} seed {run.name[-1]}: goes on, see {run}.log" in output
        assert same(run, unstopped / "hpt" / run.name)
    results = [json.loads((each / "comparison.json").read_text(encoding="utf-8"))["runs"] for each in (unstopped, out)]
    for first, second in zip(*results, strict=True):
        assert {**first, "minutes": None} == {**second, "minutes": None}
