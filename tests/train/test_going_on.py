"""What a run goes on from, and from what it does not; how it ends where something of the user's fails."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unigrad.cli import main
from unigrad.policy import Policy
from unigrad.rollout import TorchEngine
from unigrad.rollout.engines import ENGINES, register_engine
from unigrad.runs.checksums import CHECKSUMS_FILE

KEYS = {
    "train.max_steps": 3,
    "train.questions_per_step": 2,
    "train.save_steps": 1,
    "train.save_total_limit": "null",
    "train.eval_steps": 0,
    "train.tensorboard": "false",
    "rollout.num_generations": 2,
    "rollout.max_completion_length": 24,
}


def options(run: Path, **changes: object) -> list[str]:
    keys = {**KEYS, "output_dir": run, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["train", "tiny-hpt", *(text for key, value in keys.items() for text in (f"--{key}", str(value)))]


def outcome(arguments: list[str]) -> tuple[int, str]:
    """The exit code, and what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(arguments)
    return code, printed.getvalue()


def go_on(run: Path, *more: str) -> tuple[int, str]:
    return outcome(["train", "--resume", str(run), *more])


def same_weights(run: Path, other: Path) -> bool:
    mine, theirs = (load_file(each / "final" / "model.safetensors") for each in (run, other))
    return all(torch.equal(weight, theirs[name]) for name, weight in mine.items())


def problems(count: int) -> str:
    rows = ({"problem": f"{n}+2=", "answer": str(n + 2), "solution": rf"\boxed{{{n + 2}}}"} for n in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps on a file of problems, with a checkpoint after each."""
    run = tmp_path_factory.mktemp("whole") / "run"
    file = run.with_name("problems.jsonl")
    file.write_text(problems(6), encoding="utf-8")
    assert outcome(options(run, data__train=file, data__eval="null"))[0] == 0
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "final")
    return copy


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 4
    file.write_bytes(content)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("model.safetensors", flip),
        ("optimizer.pt", flip),
        ("optimizer.pt", lambda file: file.write_bytes(file.read_bytes()[:-100])),
        ("trainer_state.json", to_folder),
        ("config.yaml", lambda file: file.write_text("train: [")),
        (CHECKSUMS_FILE, lambda file: file.write_text("null")),
    ],
)
def test_the_newest_whole_checkpoint_is_used_and_what_is_wrong_is_said(
    run: Path, whole: Path, name: str, harm: Callable[[Path], object]
) -> None:
    damaged = run / "checkpoint-3"
    harm(damaged / name)
    code, printed = go_on(run)
    assert code == 0
    (line,) = [line for line in printed.splitlines() if "put aside" in line]
    assert str(damaged / name) in line
    assert f"going on from {run / 'checkpoint-2'}" in line
    assert same_weights(run, whole)
    assert (run / "checkpoint-3.damaged" / name).exists()
    assert "put aside" not in go_on(run)[1]


def test_without_a_whole_checkpoint_nothing_starts(run: Path) -> None:
    for step in (1, 2, 3):
        flip(run / f"checkpoint-{step}" / "model.safetensors")
    before = sorted(run.rglob("*"))
    code, printed = go_on(run)
    assert code == 2
    assert printed.count("\n") == 1
    assert f"no checkpoint is whole: {run / 'checkpoint-3' / 'model.safetensors'} is damaged" in printed
    assert sorted(run.rglob("*")) == before


def test_a_checkpoint_of_an_earlier_unigrad_is_used_unchecked(run: Path, whole: Path) -> None:
    for step in (2, 3):
        (run / f"checkpoint-{step}" / CHECKSUMS_FILE).unlink()
    (run / "inputs.json").unlink()
    code, printed = go_on(run)
    assert code == 0
    assert f"{run / 'checkpoint-3'} has no checksums.json" in printed
    assert same_weights(run, whole)

    (run / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    code, printed = go_on(run)
    assert code == 2
    assert f"move {run / 'checkpoint-3'} away to go on from {run / 'checkpoint-2'}" in printed
    assert "Traceback" not in printed


def test_other_problems_are_an_error_that_says_how_to_go_on_with_them(tmp_path: Path) -> None:
    file, run = tmp_path / "problems.jsonl", tmp_path / "run"
    file.write_text(problems(4), encoding="utf-8")
    assert outcome(options(run, data__train=file, data__eval="null", train__max_steps=1))[0] == 0
    file.write_text(problems(5), encoding="utf-8")
    longer = ("--train.max_steps", "2")
    code, printed = go_on(run, *longer)
    assert code == 2
    assert printed.count("\n") == 1
    assert f"data.train = {file} no longer holds the problems that the run began with" in printed
    assert f"delete {run / 'inputs.json'}" in printed
    (run / "inputs.json").unlink()
    assert go_on(run, *longer)[0] == 0
    file.write_text(problems(5).replace("boxed{6}", "boxed{7}"), encoding="utf-8")  # a demonstration alone
    assert go_on(run, "--train.max_steps", "3")[0] == 2


REWARD = """
calls, failing = 0, {failing}

def judge(prompts, completions, **columns):
    global calls
    calls += 1
    if calls == failing:
        raise ConnectionError("the judge is gone")
    return [float(len(each) % 2) for each in completions]
"""


def test_a_reward_function_that_raises_late_costs_no_finished_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, failing in (("failing_judge", 4), ("steady_judge", -1)):
        (tmp_path / f"{name}.py").write_text(REWARD.format(failing=failing))
    changes = {"train__save_steps": 0, "train__max_steps": 4}
    run, whole = tmp_path / "run", tmp_path / "whole"
    code, printed = outcome(options(run, verify__reward_function="failing_judge.judge", **changes))
    assert code == 1
    assert 'raise ConnectionError("the judge is gone")' in printed
    saved = run / "checkpoint-2"
    going_on = f"the last good checkpoint is {saved}; go on from there with: unigrad train --resume {run}"
    assert printed[printed.index("ConnectionError: ") :].splitlines()[1] == going_on
    assert saved.is_dir()
    assert go_on(run)[0] == 0  # its fourth call is behind it
    assert outcome(options(whole, verify__reward_function="steady_judge.judge", **changes))[0] == 0
    assert same_weights(run, whole)


ENGINE = """
from unigrad.rollout import TorchEngine
from unigrad.rollout.engines import register_engine

class Breaking(TorchEngine):
    calls = 0

    def generate(self, *arguments):
        Breaking.calls += 1
        if Breaking.calls == 3:
            raise KeyError("no such server")
        return super().generate(*arguments)

def build(policy, tokens):
    return Breaking(policy.model, policy.tokenizer, max_concurrent_tokens=tokens)

register_engine("breaking", build)
"""


def test_a_plugin_that_raises_late_shows_its_line_and_costs_no_finished_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("unigrad.rollout.engines.ENGINES", dict(ENGINES))
    (tmp_path / "breaking_engine.py").write_text(ENGINE)
    run = tmp_path / "run"
    code, printed = outcome(
        options(run, plugins="breaking_engine", rollout__engine="breaking", train__save_steps=0, data__eval="null")
    )
    assert code == 1
    trace = printed[printed.index("Traceback") :].splitlines()
    assert trace[1].endswith("in generate")
    assert trace[2].strip() == 'raise KeyError("no such server")'
    assert trace[-1].endswith(f"{run / 'checkpoint-2'}; go on from there with: unigrad train --resume {run}")
    assert go_on(run)[0] == 0


def test_what_nothing_expected_says_how_to_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("unigrad.rollout.engines.ENGINES", dict(ENGINES))

    class Breaking(TorchEngine):
        calls = 0

        def generate(self, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                raise KeyError("lost")
            return super().generate(*arguments)

    def build(policy: Policy, tokens: int) -> TorchEngine:
        return Breaking(policy.model, policy.tokenizer, max_concurrent_tokens=tokens)

    register_engine("lost", build)
    run = tmp_path / "run"
    code, printed = outcome(options(run, rollout__engine="lost", train__save_steps=0, data__eval="null"))
    assert code == 1
    line = printed.splitlines()[-1]
    assert line.startswith("unigrad: error: unexpected KeyError: 'lost' (traceback: ")
    assert line.endswith(f"{run / 'checkpoint-1'}; go on from there with: unigrad train --resume {run}")


def test_the_precision_of_the_trained_model_can_be_chosen_later(run: Path, whole: Path) -> None:
    assert go_on(run, "--model.save_dtype", "bfloat16")[0] == 0
    exact, half = (load_file(each / "final" / "model.safetensors") for each in (whole, run))
    assert {weight.dtype for weight in exact.values()} == {torch.float32}
    assert all(torch.equal(weight.bfloat16(), half[name]) for name, weight in exact.items())
    assert load_file(run / "checkpoint-3" / "model.safetensors")["model.norm.weight"].dtype == torch.float32


@pytest.mark.parametrize("text", ["1\n", "{}\n", '{"step": "2"}\n'])
def test_metrics_that_are_none_are_one_line(run: Path, text: str) -> None:
    (run / "metrics.jsonl").write_text(text)
    code, printed = go_on(run)
    assert code == 2
    assert f"{run / 'metrics.jsonl'}, line 1" in printed.splitlines()[-1]
    assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["metrics.jsonl", "rollouts", "final"])
def test_what_stands_where_the_run_writes_is_one_line(run: Path, name: str) -> None:
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    if name == "metrics.jsonl":
        to_folder(path)
    else:
        path.write_text("a user's")
    code, printed = go_on(run)
    assert code == 2
    assert str(path) in printed
    assert "Traceback" not in printed
