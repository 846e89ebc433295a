"""Whole runs on several ranks: they train as one process does, go on on any number, and end together."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import send, wait_for
from ranks import Ranks, command_line, train
from safetensors.torch import load_file
from test_update import make_policy
from transformers import AutoModelForCausalLM

from unigrad.cli import main
from unigrad.policy.sharding import sharded
from unigrad.runs.checkpoints import Position
from unigrad.train.checkpoint import load_state, write_moments
from unigrad.world import joined

SMALL = {
    "tiny.train_problems": 24,
    "tiny.eval_problems": 8,
    "verify.workers": 1,
    "rollout.max_completion_length": 24,
    "rollout.num_generations": 4,
    "train.max_steps": 4,
    "train.questions_per_step": 6,
    "train.questions_per_update": 3,
    "train.tokens_per_micro_batch": 300,
    "train.save_steps": 2,
    "train.eval_steps": 2,
    "train.tensorboard": False,
    "ranks.timeout_seconds": 60,
}


def command(run: Path, **changes: object) -> list[str]:
    keys = {**SMALL, "output_dir": run, **{name.replace("__", "."): value for name, value in changes.items()}}
    return ["train", "tiny-hpt", *(text for key, value in keys.items() for text in (f"--{key}", str(value)))]


def resume(run: Path, *options: str) -> list[str]:
    return ["train", "--resume", str(run), *options]


def finish(arguments: list[str], code: int = 0) -> str:
    """In this process; what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ended = main(arguments)
    assert ended == code, said.getvalue()
    return said.getvalue()


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "final" / "model.safetensors")


def rollouts(run: Path, step: int = 1) -> list[tuple[object, ...]]:
    lines = (json.loads(line) for line in (run / "rollouts" / f"{step:06d}.jsonl").read_text().splitlines())
    return [(line["id"], line["completion"], line["reward"], line["trained"]) for line in lines]


def assert_alike(run: Path, other: Path, *, exactly: bool) -> None:
    """exactly: to the bit; else as far as rounding lets two runs of a few steps go together."""
    assert [line["step"] for line in metrics(run)] == [line["step"] for line in metrics(other)]
    assert rollouts(run) == rollouts(other)
    if exactly:
        assert metrics(run) == metrics(other)
    else:
        assert metrics(run)[0] == metrics(other)[0]
        assert_near(metrics(run)[1], metrics(other)[1])
    for name, tensor in weights(other).items():
        difference = (weights(run)[name] - tensor).abs().max().item()
        # Where a gradient is near 0, AdamW turns its rounding into a step of up to the learning rate.
        assert difference == 0 if exactly else difference < 5e-3


def assert_near(step: dict[str, float], other: dict[str, float]) -> None:
    names = (
        "loss",
        "grad_norm",
        "policy/entropy",
        "tokens/trained",
        "tokens/generated",
        "reward/mean",
        "train/updates",
    )
    assert {name: step[name] for name in names} == pytest.approx({name: other[name] for name in names}, rel=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    finish(command(run))
    return run


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two ranks with sharded weights."""
    folder = tmp_path_factory.mktemp("two")
    said = train(2, folder, command(folder / "run"))
    assert "2 ranks, each with a part of the weights" in said
    assert said.count("done: the trained model is in") == 1
    return folder / "run"


def test_sharded_ranks_train_as_one_process(alone: Path, on_two: Path) -> None:
    assert_alike(on_two, alone, exactly=False)
    AutoModelForCausalLM.from_pretrained(on_two / "final")
    # Every checkpoint is a model too.
    AutoModelForCausalLM.from_pretrained(on_two / "checkpoint-2")
    parts = sorted(path.name for path in (on_two / "checkpoint-2" / "optimizer").iterdir())
    assert parts == [".metadata", "__0_0.distcp", "__1_0.distcp"]


def test_ranks_with_all_of_the_weights_train_as_one_process(alone: Path, tmp_path: Path) -> None:
    # More of them than a step has questions.
    said = train(4, tmp_path, command(tmp_path / "run", ranks__sharded=False, train__max_steps=2))
    assert "4 ranks, each with all of the weights" in said
    assert rollouts(tmp_path / "run") == rollouts(alone)
    assert metrics(tmp_path / "run")[0] == metrics(alone)[0]
    assert_near(metrics(tmp_path / "run")[1], metrics(alone)[1])
    # As one process writes it.
    assert (tmp_path / "run" / "checkpoint-2" / "optimizer.pt").is_file()


def test_questions_alike_that_fall_to_two_ranks_have_random_numbers_of_their_own(tmp_path: Path) -> None:
    changes = {"tiny__train_problems": 3, "train__max_steps": 1, "train__eval_steps": 0, "train__save_steps": 0}
    one, two = tmp_path / "one", tmp_path / "two"
    finish(command(one, **changes))
    train(2, tmp_path, command(two, **changes, ranks__sharded=False))
    assert rollouts(two) == rollouts(one)
    # Each of the three problems is asked twice: by the first rank, and by the second.
    lines = (json.loads(line) for line in (two / "rollouts" / "000001.jsonl").read_text().splitlines())
    completions = [(line["id"], line["completion"]) for line in lines if line["kind"] == "rollout"]
    assert len(completions) == 24
    assert len({problem for problem, _ in completions}) == 3
    for problem in {problem for problem, _ in completions}:
        asked = [completion for each, completion in completions if each == problem]
        assert asked[:4] != asked[4:]


def test_a_stopped_run_goes_on_on_as_many_ranks_to_the_same_bits_and_on_others(on_two: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "run"
    with Ranks(2, tmp_path, command_line, command(stopped, train__save_steps=0)) as ranks:
        wait_for(stopped / "metrics.jsonl", 2, ranks.processes[0])
        # To one of them alone.
        send(signal.SIGTERM, ranks.processes[1])
        assert ranks.codes() == [128 + signal.SIGTERM] * 2, ranks.said()
        assert ranks.said().count(f"go on with: unigrad train --resume {stopped}") == 1
    others = {size: tmp_path / f"on-{size}" for size in (1, 3)}
    for other in others.values():
        shutil.copytree(stopped, other)
    train(2, tmp_path, resume(stopped))
    assert_alike(stopped, on_two, exactly=True)
    for size, other in others.items():
        if size == 1:
            finish(resume(other))
        else:
            train(size, tmp_path, resume(other))
        assert_alike(other, on_two, exactly=False)


def test_an_adapter_on_sharded_ranks(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs unigrad[peft]")
    changes = {"model__lora__r": 3, "algorithm__kl_coefficient": 0.1, "train__learning_rate": 1e-3}
    one, two, parted = tmp_path / "one", tmp_path / "two", tmp_path / "parted"
    finish(command(one, **changes))
    train(2, tmp_path, command(two, **changes))
    assert_alike(two, one, exactly=False)
    names = sorted(path.name for path in (two / "checkpoint-4").iterdir())
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    train(2, tmp_path, command(parted, **changes, train__max_steps=2))
    train(2, tmp_path, resume(parted, "--train.max_steps", "4"))
    assert_alike(parted, two, exactly=True)
    adapters = [load_file(run / "final-adapter" / "adapter_model.safetensors") for run in (two, parted)]
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())


def test_a_run_of_one_process_goes_on_on_sharded_ranks(alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoint-4")
    train(2, tmp_path, resume(run))
    assert_alike(run, alone, exactly=False)


def test_a_killed_rank_ends_the_others_with_one_line_and_the_run_goes_on(on_two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Ranks(2, tmp_path, command_line, command(run, train__save_steps=1)) as ranks:
        wait_for(run / "metrics.jsonl", 3, ranks.processes[0])
        ranks.processes[1].kill()
        assert ranks.codes() == [1, -signal.SIGKILL]
        said = ranks.said()
    errors = [line for line in said.splitlines() if line.startswith("unigrad: error: ")]
    assert len(errors) == 1, said
    assert "another rank is gone, or was silent for longer than ranks.timeout_seconds = 60" in errors[0]
    assert f"go on from there with: unigrad train --resume {run}" in errors[0]
    assert "Traceback" not in said
    train(2, tmp_path, resume(run))
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(on_two).items())


def test_a_rank_that_stands_still_is_not_waited_for_longer_than_the_limit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Ranks(2, tmp_path, command_line, command(run, ranks__timeout_seconds=3, train__max_steps=100)) as ranks:
        wait_for(run / "metrics.jsonl", 2, ranks.processes[0])
        send(signal.SIGSTOP, ranks.processes[1])
        start = time.monotonic()
        ranks.processes[0].join(60)
        assert ranks.processes[0].exitcode == 1, ranks.said()
        assert time.monotonic() - start < 30
        assert "another rank is gone, or was silent" in ranks.said()


def test_a_reward_function_that_raises_on_one_rank_shows_its_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reward_of_ranks.py").write_text(
        "import os\n\n\ndef reward(completions, trainer_state):\n"
        "    if os.environ.get('RANK') == '1' and trainer_state.global_step == 1:\n"
        "        raise KeyError('mine')\n"
        "    return [float(len(each) % 2) for each in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = train(
        3, tmp_path, command(tmp_path / "run", verify__reward_function="reward_of_ranks.reward"), codes=[1, 1, 1]
    )
    assert said.count("KeyError: 'mine'") == 1
    assert said.count("Traceback") == 1
    assert "reward_of_ranks.py" in said
    assert "unigrad: error" not in said


def test_what_is_wrong_for_every_rank_is_said_once(on_two: Path, tmp_path: Path) -> None:
    said = train(3, tmp_path, command(on_two), codes=[2, 2, 2])
    assert said.count("unigrad: error: ") == 1
    assert "already holds a run; go on with" in said
    said = train(2, tmp_path, [*command(tmp_path / "run"), "--train.max_step", "1"], codes=[2, 2])
    assert said.count("unigrad: error: ") == 1
    assert "did you mean --train.max_steps?" in said


def _write_moments(folder: Path) -> None:
    with joined(lambda: torch.device("cpu"), 60) as world:
        policy = sharded(make_policy(), world)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
        for parameter in policy.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        write_moments(folder, optimizer)


def test_the_moments_of_another_model_are_one_line(tmp_path: Path) -> None:
    with Ranks(2, tmp_path, _write_moments, tmp_path) as ranks:
        assert ranks.codes() == [0, 0], ranks.said()
    Position(step=1, tokens=2, stage=0).write(tmp_path)
    policy = make_policy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    assert load_state(tmp_path, optimizer, policy) == Position(1, 2, 0)
    moments = [each["exp_avg"] for each in optimizer.state.values()]
    assert [each.shape for each in moments] == [each.shape for each in policy.parameters()]
    assert all(torch.allclose(each, torch.full_like(each, 0.1)) for each in moments)
    for other, reason in (
        (make_policy(tied=False), "is not this run's: it is of 20 parameters, and here are 21"),
        (make_policy(halved=True), "is not a tensor of the shape"),
    ):
        with pytest.raises(ValueError, match=rf"\A{tmp_path / 'optimizer'} [^\n]*{reason}[^\n]*\Z"):
            load_state(tmp_path, torch.optim.AdamW(other.parameters(), lr=0.1), other)


def test_damaged_moments_are_one_line(on_two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(on_two, run)
    part = run / "checkpoint-4" / "optimizer" / "__1_0.distcp"
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    said = finish(resume(run, "--train.max_steps", "5", "--train.save_steps", "0"))
    assert f"{part} has {len(content) // 2:,} bytes, and {len(content):,} were written" in said
    assert "going on from" in said
    shutil.rmtree(run)
    shutil.copytree(on_two, run)
    (run / "checkpoint-4" / "checksums.json").unlink()
    part.write_bytes(content[: len(content) // 2])
    error = finish(resume(run, "--train.max_steps", "5"), code=2).splitlines()[-1]
    assert f"{run / 'checkpoint-4' / 'optimizer'} is cut off or damaged" in error


def test_ranks_that_are_started_again_go_on_with_their_run(on_two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # The first attempt fell before there was a folder.
    train(2, tmp_path, command(run, train__max_steps=2), restarts=1)
    train(2, tmp_path, resume(run, "--train.max_steps", "3"))
    shutil.rmtree(run / "final")
    train(2, tmp_path, command(run), restarts=1)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(on_two).items())


def torchrun(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_torchrun_is_a_door(tmp_path: Path) -> None:
    torchrun(tmp_path, "-m", "unigrad", *command(tmp_path / "run", train__max_steps=1, train__eval_steps=0))
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final")


@pytest.mark.slow
def test_torchrun_starts_a_run_again_whose_rank_was_killed(tmp_path: Path) -> None:
    (tmp_path / "dies_once.py").write_text(
        "import os, pathlib, signal\n\n\ndef reward(completions, trainer_state):\n"
        "    first = pathlib.Path('died')\n"
        "    if os.environ['RANK'] == '1' and trainer_state.global_step == 1 and not first.exists():\n"
        "        first.touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return [float(len(each) % 2) for each in completions]\n"
    )
    run = tmp_path / "run"
    changes = {"train__max_steps": 2, "train__save_steps": 1, "train__eval_steps": 0}
    options = command(run, verify__reward_function="dies_once.reward", **changes)
    torchrun(tmp_path, "--max-restarts", "1", "-m", "unigrad", *options)
    assert (tmp_path / "died").exists()
    assert [line["step"] for line in metrics(run)] == [1, 2]
    AutoModelForCausalLM.from_pretrained(run / "final")
