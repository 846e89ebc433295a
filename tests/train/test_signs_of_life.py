"""How far a step, or an evaluation, is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import unigrad.live
from unigrad.cli import main
from unigrad.rollout import Completion, Sampled
from unigrad.train.progress import Display, Watch


def ended(tokens: int) -> Sampled:
    completion = Completion((1,) * tokens, (0.0,) * tokens, (0.0,) * tokens, truncated=False, ended=True, text="")
    return Sampled(0, 0, completion, None)


def test_what_is_said_within_a_step() -> None:
    said: list[str] = []
    told = Watch(said.append).sampling("rollouts", 3)
    for tokens in (4, 6, 2):
        told(ended(tokens))
    assert [line.split("  ")[0] for line in said] == ["rollouts 1/3", "rollouts 2/3", "rollouts: scoring"]
    assert "tokens/s" in said[1]
    assert said[1].endswith(" left")
    Watch(said.append).training(2, 4)(1, 9)
    assert said[-1] == "update 2/4, micro-batch 1/9"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_log_says_it_after_a_while_alone(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=120)
    with Display(console, max_steps=3, first_step=1) as display:
        display.within("rollouts 1/9")
    assert ("rollouts 1/9" in file.getvalue()) == is_terminal
    monkeypatch.setattr(unigrad.live, "QUIET_SECONDS", -1.0)
    with Display(console, max_steps=3, first_step=1) as display:
        display.within("rollouts 2/9")
    assert "rollouts 2/9" in file.getvalue()


def test_a_run_says_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unigrad.live, "QUIET_SECONDS", -1.0)
    small = {
        "output_dir": tmp_path / "run", "tiny.train_problems": 8, "tiny.eval_problems": 4, "train.max_steps": 1,
        "train.questions_per_step": 2, "rollout.num_generations": 2, "rollout.max_completion_length": 16,
        "data.max_demonstration_length": 80, "train.tensorboard": "false",
    }  # fmt: skip
    assert main(["train", *(text for key, value in small.items() for text in (f"--{key}", str(value)))]) == 0
    said = capsys.readouterr().out
    for line in ("step 0/1  evaluating tiny 3/4", "step 0/1  rollouts 3/4", "step 0/1  update 1/1, micro-batch 1/1"):
        assert line in said
