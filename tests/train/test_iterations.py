"""Updates over the same rollouts, the share of questions with demonstrations, and the entropy bonus in an update."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unigrad.batch import Row, Rows, Sequences
from unigrad.cli import main
from unigrad.config import TrainConfig, ValueConfig, load_config
from unigrad.data.tiny import MODEL_PATH
from unigrad.estimator import algorithm
from unigrad.hybrid import Decision
from unigrad.policy import load_policy
from unigrad.runs.metrics import Metric
from unigrad.train.metrics import decision_metrics
from unigrad.train.run import run
from unigrad.train.update import update
from unigrad.types import Group, Problem
from unigrad.world import World

KEYS = {
    "data.eval": "null", "rollout.num_generations": 4, "rollout.max_completion_length": 48, "train.max_steps": 3,
    "train.questions_per_step": 6, "train.questions_per_update": 3, "train.save_steps": 1, "train.eval_steps": 0,
    "train.save_total_limit": "null", "train.tensorboard": "false", "model.device": "cpu", "tiny.train_problems": 20,
}  # fmt: skip


def trained(folder: Path, recipe: str = "tiny-grpo", **changes: Any) -> list[dict[str, Any]]:
    keys = {**KEYS, "output_dir": folder, **{key.replace("__", "."): value for key, value in changes.items()}}
    assert run(load_config(recipe, {key: str(value) for key, value in keys.items()})) == 0
    return lines(folder)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics but for the times."""
    read = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in read]


def test_a_steps_updates_are_gone_through_several_times(tmp_path: Path) -> None:
    once = trained(tmp_path / "once", train__max_steps=1)[-1]
    twice = trained(tmp_path / "twice", train__max_steps=1, train__num_iterations=3)[-1]
    for same in ("reward/mean", "tokens/generated", Metric.MISMATCH_MEAN):
        assert twice[same] == once[same], same
    for more in ("train/updates", "tokens/trained"):
        assert twice[more] == 3 * once[more] > 0, more


def test_the_plan_counts_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny-grpo", "--plan", "--train.num_iterations", "3", "--train.max_steps", "2"]) == 0
    output = capsys.readouterr().out
    assert (
        "a step: 16 questions, 128 completions, 3 updates; at most 10,240 tokens sampled and 30,720 trained" in output
    )
    assert "the run: 2 steps, 32 questions, 256 completions, 6 updates" in output


def test_later_iterations_compare_with_the_steps_start(tmp_path: Path) -> None:
    """One update is on the weights that sampled: no ratio leaves 1, however tight the clip. A second one's do."""
    tight = {"train__max_steps": 1, "train__questions_per_update": "null", "train__learning_rate": 1e-3}
    tight |= {"algorithm__clip_low": 1e-3, "algorithm__clip_high": 1e-3}
    (once,) = trained(tmp_path / "once", **tight)
    (twice,) = trained(tmp_path / "twice", train__num_iterations=2, **tight)
    assert once["policy/clip_fraction"] == 0
    assert twice["policy/clip_fraction"] > 0.1


def test_a_resumed_run_repeats_its_iterations(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    trained(whole, "tiny-hpt", train__num_iterations=2)
    shutil.copytree(whole, parted)
    for later in ("final", "checkpoint-2", "checkpoint-3"):
        shutil.rmtree(parted / later)
    assert run(load_config(str(parted / "config.yaml")), resume=parted) == 0
    assert lines(parted) == lines(whole)
    first, second = (load_file(folder / "final" / "model.safetensors") for folder in (whole, parted))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("betas", [(0.125,), (0.25, 0.0), (0.0, 2.0)])
def test_the_offline_ratio_counts_questions(betas: tuple[float, ...]) -> None:
    """Fig. 6: a question under a fractional β is one question that trains on its demonstration."""
    groups = [
        Group(problem=Problem(id=str(i), problem="?", answer="1"), rollouts=(), demonstration=None) for i in range(4)
    ]
    decisions = [Decision(0.5, betas), Decision(1.0, (0.0,) * len(betas)), Decision(0.0, betas), Decision(0.0, (0.0,))]
    found = decision_metrics(groups, decisions)
    assert (found[Metric.OFFLINE_RATIO], found[Metric.DROPPED]) == (0.5, 0.25)


def test_the_entropy_bonus_raises_the_entropy() -> None:
    """Of rows of advantage 0 the bonus is all there is: loss −c·k·ΣH, and a step along it makes H larger."""
    policy = load_policy(str(MODEL_PATH), device="cpu", dtype="float32")
    sequences = Sequences.of_ids([((1, 5, 6), (7, 8, 9, 10))], [1.0])
    bonus = algorithm("grpo", entropy_coefficient=0.5)
    rows = Rows.of(sequences, [Row(sequence=0, question=0, algorithm=bonus, coefficient=0.25, advantage=0.0)])
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
    config = TrainConfig(max_grad_norm=0)
    first, second = (update(policy, optimizer, rows, config, ValueConfig(), World()) for _ in range(2))
    assert first.loss == pytest.approx(-0.25 * 0.5 * first.entropy, rel=1e-5)
    assert first.grad_norm > 0
    assert second.entropy > first.entropy
