"""`train.keep_best`: the checkpoint of the best evaluation stays, through pruning, stopping and resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.errors import ConfigError
from unigrad.runs.checkpoints import Position, checkpoints, prune
from unigrad.runs.metrics import RunMetrics

KEYS = {
    "data.eval": "tiny", "tiny.train_problems": 8, "tiny.eval_problems": 12, "rollout.max_completion_length": 16,
    "rollout.num_generations": 2, "train.max_steps": 8, "train.questions_per_step": 2, "train.eval_steps": 1,
    "train.learning_rate": 1e-3, "train.save_steps": 2, "train.save_total_limit": 1, "train.keep_best": "true",
    "train.tensorboard": "false", "rollout.temperature": 1.0, "eval.num_generations": 2,
}  # fmt: skip


def train(run: Path, **changes: object) -> None:
    keys = {**KEYS, "output_dir": run, **{key.replace("__", "."): value for key, value in changes.items()}}
    assert main(["train", "tiny-hpt", *(text for key, value in keys.items() for text in (f"--{key}", str(value)))]) == 0


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_best_stays_and_the_metrics_say_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run")
    printed = capsys.readouterr().out
    accuracy = {line["step"]: line["eval/tiny/accuracy"] for line in lines(tmp_path / "run")}
    trained = {step: value for step, value in accuracy.items() if step}
    for line in lines(tmp_path / "run")[1:]:
        so_far = {step: value for step, value in trained.items() if step <= line["step"]}
        assert line["eval/best_step"] == max(so_far, key=lambda step: (so_far[step], -step))
    best = max(trained, key=lambda step: (trained[step], -step))
    assert best not in (7, 8)  # or the newest would be it
    assert [step for step, _ in checkpoints(tmp_path / "run")] == [best, 8]
    assert "eval/best_step" not in lines(tmp_path / "run")[0]
    assert f"{trained[best]:.1%}, is in {tmp_path / 'run' / f'checkpoint-{best}'}" in "".join(printed.split("\n"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / f"checkpoint-{best}")


def test_a_resumed_run_keeps_the_same(tmp_path: Path) -> None:
    train(tmp_path / "one")
    train(tmp_path / "two", train__max_steps=4)
    shutil.rmtree(tmp_path / "two" / "final")
    assert main(["train", "--resume", str(tmp_path / "two"), "--train.max_steps", "8"]) == 0
    assert RunMetrics(tmp_path / "two").best_step == RunMetrics(tmp_path / "one").best_step
    assert [each[0] for each in checkpoints(tmp_path / "two")] == [each[0] for each in checkpoints(tmp_path / "one")]


def test_a_best_whose_checkpoint_is_gone_is_none(tmp_path: Path) -> None:
    train(tmp_path / "run", train__max_steps=4)
    run = tmp_path / "run"
    path = run / "metrics.jsonl"
    shutil.rmtree(run / "final")
    path.write_text("".join(json.dumps({**line, "eval/best_step": 1}) + "\n" for line in lines(run)), encoding="utf-8")
    shutil.rmtree(run / "checkpoint-1", ignore_errors=True)
    assert main(["train", "--resume", str(run), "--train.max_steps", "5"]) == 0
    assert lines(run)[-1]["eval/best_step"] == 5


def test_without_regular_saves_the_best_alone_is_saved(tmp_path: Path) -> None:
    train(tmp_path / "run", train__save_steps=0, train__max_steps=4)
    best = RunMetrics(tmp_path / "run").best_step
    assert best is not None
    assert [step for step, _ in checkpoints(tmp_path / "run")] == [best]


def test_pruning_leaves_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        Position(step).write(tmp_path / f"checkpoint-{step}")
    prune(tmp_path, 1, best=2)
    assert [step for step, _ in checkpoints(tmp_path)] == [2, 4]


@pytest.mark.parametrize(("key", "value"), [("data.eval", "null"), ("train.eval_steps", "0")])
def test_without_evaluations_it_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.keep_best: {key} is {value}"):
        load_config("tiny", {"train.keep_best": "true", key: value})


def test_off_nothing_is_said_of_a_best(tmp_path: Path) -> None:
    train(tmp_path / "run", train__keep_best="false", train__max_steps=2)
    assert RunMetrics(tmp_path / "run").best_step is None
