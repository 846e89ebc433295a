"""Whole runs under reward functions of the user's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import processes
import pytest

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.train.build import checked_objectives

FUNCTIONS = """
import asyncio

def thirds(completions):
    return [1 / 3] * len(completions)

def steps(completions, trainer_state):
    return [trainer_state.global_step / trainer_state.max_steps] * len(completions)

async def ended(completion_ids):
    await asyncio.sleep(0)
    return [float(ids[-1] == 2) for ids in completion_ids]

def varying(completions):
    return [len(each) % 2 / 4 for each in completions]

def right(completions, answer):
    return [float(gold in said) for gold, said in zip(answer, completions)]

calls = 0

def fails_late(completions):
    global calls
    calls += 1
    return [float("nan") if calls == 3 else 0.0] * len(completions)

def slow(completions):
    import time
    print("judging", flush=True)
    time.sleep(60)

async def slow_judge(completions):
    print("judging", flush=True)
    await asyncio.sleep(60)
"""
OPTIONS = (
    "--output_dir", "run", "--data.eval", "null", "--train.eval_steps", "0", "--train.tensorboard", "false",
    "--train.max_steps", "2", "--train.questions_per_step", "4", "--rollout.num_generations", "4",
    "--tiny.train_problems", "8",
)  # fmt: skip


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of this test alone, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_rewards_{abs(hash(request.node.name))}"
    Path(f"{name}.py").write_text(FUNCTIONS)
    return name


def train(recipe: str, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, metrics and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["train", recipe, *OPTIONS, *options])
    path = Path("run/metrics.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return code, [json.loads(line) for line in lines], said.getvalue()


def test_several_rewards_each_logged(module: str) -> None:
    functions = ",".join(["verify", *(f"{module}.{name}" for name in ("thirds", "steps", "ended"))])
    options = ("--verify.reward_functions", functions, "--verify.reward_weights", "0.5,3,0.5,0")
    code, lines, _ = train("tiny-hpt", *options)
    assert code == 0
    assert [line["reward/thirds/mean"] for line in lines] == pytest.approx([1 / 3, 1 / 3])
    assert [line["reward/steps/mean"] for line in lines] == [0, 0.5]
    assert all(0 <= line["reward/ended/mean"] <= 1 for line in lines)
    for line in lines:
        total = 1 + 0.5 * line["reward/verify/mean"] + 0.5 * line["reward/steps/mean"]
        assert line["reward/mean"] == pytest.approx(total)
        assert (line["gate/solved_all"], line["gate/offline_ratio"]) == (1, 0)


@pytest.mark.parametrize(("solved_at", "solved_none"), [("1", 1), ("0.333333333", 0)])
def test_partial_credit_is_solved_from_where_it_is_said(module: str, solved_at: str, solved_none: int) -> None:
    options = ("--verify.reward_function", f"{module}.thirds", "--method.solved_at", solved_at)
    code, lines, _ = train("tiny-grpo", "--algorithm.name", "reinforce", *options)
    assert code == 0
    for line in lines:
        assert (line["gate/solved_none"], line["gate/solved_all"]) == (solved_none, 1 - solved_none)
        # REINFORCE pushes down what is unsolved: −log π times ±1.
        assert (line["loss"] > 0) == (not solved_none)


def test_rewards_that_are_never_full_are_said_once(module: str) -> None:
    options = ("--verify.reward_function", f"{module}.varying", "--rollout.num_generations", "32")
    _, _, said = train("tiny-grpo", *options)
    assert said.count("reached method.solved_at = 1 (the largest was 0.25)") == 1


def test_a_bad_reward_late_in_a_run_is_one_line(module: str) -> None:
    code, lines, said = train("tiny-hpt", "--verify.reward_function", f"{module}.fails_late")
    assert (code, len(lines)) == (1, 1)
    (line,) = (line for line in said.splitlines() if "error" in line)
    assert "reward function 'fails_late' returned nan at 0" in line
    assert "unigrad train --resume run" in line
    assert "Traceback" not in said


@pytest.mark.parametrize("function", ["slow", "slow_judge"])
def test_ctrl_c_within_a_reward_function_is_no_bug_of_it(module: str, function: str) -> None:
    os.mkfifo("said")
    command = ["train", "tiny-hpt", *OPTIONS, "--verify.reward_function", f"{module}.{function}"]
    process = processes.start(command, Path("said"))
    with Path("said").open() as said:
        while "judging" not in (line := said.readline()):
            assert line
        processes.send(signal.SIGINT, process)
        assert said.read() == "unigrad: stopped\n"
    assert processes.exit_code(process) == 130


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method.solved_at", "0.5"), "method.solved_at: the verifier's rewards are 0 and 1"),
        (("--verify.reward_weights", "2"), "verify.reward_weights has 1 weights for 0"),
        (("--verify.reward_functions", "verify,verify"), "verify.reward_functions names 'verify' twice"),
        (("--verify.reward_functions", "verify", "--verify.reward_function", "a.b"), "give one of them"),
    ],
)
def test_what_does_not_fit_together(options: tuple[str, ...], message: str, module: str) -> None:
    code, _, said = train("tiny-hpt", *options)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1


def test_one_rollout_is_enough_beside_a_demonstration() -> None:
    (luffy,) = checked_objectives(load_config("tiny-luffy", {"rollout.num_generations": "1"}))
    assert luffy.terms[0].algorithm.is_relative
    with pytest.raises(ValueError, match="one alone never trains"):
        checked_objectives(load_config("tiny-grpo", {"rollout.num_generations": "1"}))


PROMPTS = [{"prompt": f"{each}+1?", "topic": "sums"} for each in range(8)]
CHATS = [{"prompt": [{"role": "user", "content": each["prompt"]}]} for each in PROMPTS]
GROUP = {"method.name": "grpo", "train.max_steps": "1", "train.questions_per_step": "4", "rollout.num_generations": "4"}


@pytest.mark.parametrize("rows", [PROMPTS, CHATS])
def test_prompts_alone_are_enough_for_rewards_of_ones_own(
    module: str, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path("prompts.jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [f"--{key}={value}" for key, value in {**GROUP, "data.train": data, "output_dir": "run"}.items()]
    reward = f"--verify.reward_function={module}.varying"
    assert main(["train", "tiny", *options, reward, f"--data.eval={data}", "--rollout.max_completion_length=16"]) == 0
    assert "train: problem ← `prompt`; no answers; no demonstrations" in capsys.readouterr().out
    # A function that needs them, and the verifier, alone or as one of several, say that there are none.
    for given, said in (
        (f"--verify.reward_function={module}.right", "reward function 'right' asks for 'answer', which is no column"),
        (f"--verify.reward_functions={module}.varying,verify", "no column for the answer"),
        ("--verify.reward_functions=verify", "no column for the answer"),
        ("", "no column for the answer"),
        (f"{reward} --data.columns.answer=topik", "no column 'topik' for the answer"),
    ):
        given = f"{given} --data.eval=null --output_dir=run-{len(list(Path().iterdir()))}"
        assert main(["train", "tiny", *options, *given.split()]) in (1, 2)
        printed = "".join(capsys.readouterr())
        assert said in printed
        assert "Traceback" not in printed
