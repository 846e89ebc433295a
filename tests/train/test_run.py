"""Whole runs, as a user starts them: what they write, and that killing and resuming them changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import processes
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from unigrad.cli import main
from unigrad.hybrid import METHODS
from unigrad.versions import environment

SMALL = {
    "tiny.train_problems": 24,
    "tiny.eval_problems": 8,
    "verify.workers": 1,
    "rollout.max_completion_length": 24,
    "rollout.num_generations": 4,
    "train.max_steps": 6,
    "train.questions_per_step": 6,
    "train.questions_per_update": 3,
    "train.tokens_per_micro_batch": 300,
    "train.warmup_steps": 2,
    "train.lr_scheduler_type": "constant",
    "train.save_steps": 2,
    "train.eval_steps": 3,
}


def command(run: Path, recipe: str = "tiny-hpt", **changes: object) -> list[str]:
    keys = {**SMALL, "output_dir": run, **{name.replace("__", "."): value for name, value in changes.items()}}
    options = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    return ["train", recipe, *options]


def resume(run: Path, *options: str) -> list[str]:
    return ["train", "--resume", str(run), *options]


@dataclass(frozen=True)
class Printed:
    stdout: str
    stderr: str


def finish(arguments: list[str], code: int = 0) -> Printed:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        ended = main(arguments)
    printed = Printed(stdout.getvalue(), stderr.getvalue())
    assert ended == code, printed
    return printed


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "final" / "model.safetensors")


def without_times(line: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in line.items() if not key.startswith("time/")}


@pytest.fixture
def odd_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A reward function under which about half of any completions are right, and no symbolic check is waited for."""
    (tmp_path / "reward_by_length.py").write_text(
        "def odd(completions):\n    return [float(len(each) % 2) for each in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "reward_by_length.odd"


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unstopped") / "run"
    output = finish(command(run)).stdout
    assert "held-out accuracy" in output
    assert "of the demonstrations earn the reward" in output
    assert "6 questions, 24 completions, 2 updates" in output
    return run


def test_what_a_run_directory_holds(unstopped: Path) -> None:
    lines = metrics(unstopped)
    assert [line["step"] for line in lines] == list(range(7))
    names = {
        "step", "reward/mean", "gate/offline_ratio", "gate/solved_none", "gate/solved_all", "policy/entropy",
        "response/length_mean", "response/truncated", "loss", "grad_norm", "learning_rate", "tokens/generated",
        "tokens/trained", "tokens/skipped", "time/rollout", "time/verify", "time/train", "time/step",
    }  # fmt: skip
    assert all(names <= set(line) for line in lines[1:])
    assert [line["step"] for line in lines if "eval/tiny/accuracy" in line] == [0, 3, 6]
    assert sorted(path.name for path in unstopped.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]

    rollouts = [json.loads(line) for line in (unstopped / "rollouts" / "000001.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "rollout" for line in rollouts) == 24
    assert {"id", "prompt", "completion", "verdict", "reward", "gate"} <= set(rollouts[0])
    for line in rollouts:
        if line["kind"] == "rollout":
            assert "".join(line["pieces"]) == line["completion"]
            assert len(line["pieces"]) == len(line["logprobs"]) == line["tokens"]
            assert max(line["logprobs"]) <= 0
        if line["kind"] == "demonstration":
            assert line["gate"]["solved"] == 0
            assert line["trained"]
    offline = len({line["id"] for line in rollouts if line["gate"]["beta"]}) / 6
    assert lines[1]["gate/offline_ratio"] == pytest.approx(offline)
    trained = sum(line["tokens"] for line in rollouts if line["trained"])
    generated = sum(line["tokens"] for line in rollouts if line["kind"] == "rollout")
    skipped = sum(line["tokens"] for line in rollouts if line["kind"] == "rollout" and not line["trained"])
    assert (lines[1]["tokens/trained"], lines[1]["tokens/generated"]) == (trained, generated)
    assert lines[1]["tokens/skipped"] == skipped
    # Before the first update the trainer's log-probs are the engine's, but for float32 rounding.
    assert all(line.get("policy/rollout_mismatch_max", 0.0) < 1e-3 for line in lines[1:])


def test_the_trained_model_loads_as_it_is(unstopped: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(unstopped / "final")
    tokenizer = AutoTokenizer.from_pretrained(unstopped / "final")
    ids = tokenizer("12 add 3\n", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] > ids.shape[1]


def test_the_saved_config_repeats_the_run(unstopped: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    finish(["train", str(unstopped / "config.yaml"), "--output_dir", str(again)])
    assert [without_times(line) for line in metrics(again)] == [without_times(line) for line in metrics(unstopped)]
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(unstopped).items())


@pytest.mark.parametrize("seed", [0])
def test_killed_at_three_arbitrary_moments_and_resumed_it_ends_with_the_same_weights(
    unstopped: Path, tmp_path: Path, seed: int
) -> None:
    run, moments = tmp_path / "run", random.Random(seed)
    for kill in range(3):
        arguments = resume(run) if (run / "config.yaml").exists() else command(run)
        process = processes.start(arguments, tmp_path / "said")
        processes.wait_for(run / "metrics.jsonl", kill + moments.randrange(2) + 1, process)
        time.sleep(moments.random() * 0.1)
        process.kill()
        assert processes.exit_code(process) in (-signal.SIGKILL, 0)  # on a machine that is busy it may have ended
    finish(resume(run))
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(unstopped).items())
    assert [without_times(line) for line in metrics(run)] == [without_times(line) for line in metrics(unstopped)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_finishes_the_step_saves_and_says_how_to_go_on(
    number: signal.Signals, unstopped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = processes.start(command(run, train__save_steps=0), tmp_path / "said")
    processes.wait_for(run / "metrics.jsonl", 2, process)
    processes.send(number, process)
    assert processes.exit_code(process) == 128 + number
    assert f"go on with: unigrad train --resume {run}" in (tmp_path / "said").read_text()
    stopped_at = metrics(run)[-1]["step"]
    assert (run / f"checkpoint-{stopped_at}").is_dir()
    finish(resume(run))
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(unstopped).items())


def test_a_run_whose_terminal_is_gone_saves_and_ends(unstopped: Path, tmp_path: Path) -> None:
    run, terminal = tmp_path / "run", tmp_path / "terminal"
    os.mkfifo(terminal)
    process = processes.start(command(run, train__save_steps=0), terminal)
    with terminal.open() as said:
        while "step 1/6" not in (line := said.readline()):
            assert line
    assert processes.exit_code(process) == 128 + signal.SIGHUP
    stopped_at = metrics(run)[-1]["step"]
    assert (run / f"checkpoint-{stopped_at}").is_dir()
    finish(resume(run))
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(unstopped).items())


def test_a_resumed_run_goes_by_the_verdicts_that_it_kept(tmp_path: Path) -> None:
    run, problems = tmp_path / "run", tmp_path / "problems.jsonl"
    rows = [{"problem": f"root of {n}", "answer": str(n), "solution": rf"\boxed{{\sqrt{{{n * n}}}}}"} for n in (2, 3)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes = {"data__train": problems, "data__eval": "null", "train__questions_per_step": 3, "train__max_steps": 2}
    assert "100.0% of the demonstrations earn the reward" in finish(command(run, **changes)).stdout
    kept = run / "verdicts.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    assert {"extracted": r"\sqrt{4}", "gold": "2", "reason": "right"} in [json.loads(line) for line in lines]
    kept.write_text("".join(lines).replace('"right"', '"timed out"') + '{"extr', encoding="utf-8")
    assert "0.0% of the demonstrations earn the reward (2 timed out)" in finish(resume(run)).stdout
    # What it had kept is still there, and the line cut off is gone.
    again = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert {line["reason"] for line in again if "sqrt" in line["extracted"]} == {"timed out"}
    kept.write_text("{}\n", encoding="utf-8")
    assert f"{kept}, line 1: expected a verdict" in finish(resume(run), code=2).stderr


def test_a_finished_run_resumes_to_nothing_and_can_be_made_longer(unstopped: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    finish(command(short, train__max_steps=4))
    finish(resume(short, "--train.max_steps", "6"))
    assert all(torch.equal(tensor, weights(short)[name]) for name, tensor in weights(unstopped).items())
    finish(resume(short))
    assert [line["step"] for line in metrics(short)] == list(range(7))


def test_a_run_records_its_versions_and_says_where_it_goes_on_under_others(unstopped: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(unstopped, run)
    recorded = run / "checkpoint-6" / "environment.json"
    assert json.loads(recorded.read_text()) == json.loads((run / "environment.json").read_text()) == environment()
    assert "other roundings" not in finish(resume(run)).stdout

    recorded.write_text(json.dumps({**environment(), "torch": "1.0"}))
    line = f"torch was 1.0 and is now {environment()['torch']}: the run may go on with other roundings\n"
    assert line in finish(resume(run)).stdout

    recorded.write_text("{")
    assert f"{recorded} is damaged" in finish(resume(run), code=2).stderr
    recorded.unlink()
    finish(resume(run))


def test_what_stands_in_the_way_of_a_run(unstopped: Path) -> None:
    error = finish(command(unstopped), code=2).stderr
    assert f"output_dir {unstopped} already holds a run; go on with `unigrad train --resume {unstopped}`" in error
    error = finish(resume(unstopped, "--train.learning_rate", "1"), code=2).stderr
    assert "train.learning_rate was 0.0005 and is now 1.0; a resumed run keeps its config" in error
    assert error.count("\n") == 1


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(command(run, train__max_steps=2))

    process = processes.start(resume(run, "--train.max_steps", "4"), tmp_path / "said", largest_file=2**20)
    assert processes.exit_code(process) == 1
    said = (tmp_path / "said").read_text()
    assert f"the last good checkpoint is {run / 'checkpoint-2'}" in said
    assert "Traceback" not in said
    finish(resume(run, "--train.max_steps", "4"))
    assert (run / "final").is_dir()


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_the_pure_methods_train(method: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(command(run, f"tiny-{method}", train__max_steps=2))
    lines = metrics(run)[1:]
    if method == "sft":
        assert all(line["gate/offline_ratio"] == 1 and line["tokens/generated"] == 0 for line in lines)
        assert all(line["tokens/trained"] > 0 for line in lines)
    else:
        assert all(line["gate/offline_ratio"] == 0 and line["tokens/generated"] > 0 for line in lines)


@pytest.mark.parametrize(
    "choice",
    [
        *((f"tiny-{name}",) for name in METHODS if name not in ("hpt", "sft", "grpo")),
        ("tiny-luffy", "--algorithm.normalise_std", "false", "--algorithm.shaping_gamma", "0.2"),
        ("tiny-grpo", "--algorithm.name", "reinforce"),
        ("tiny-grpo", "--algorithm.name", "cispo"),
        ("tiny-grpo", "--algorithm.name", "gspo"),
        ("tiny-grpo", "--algorithm.name", "clip_cov"),
        ("tiny-grpo", "--algorithm.name", "dpo"),
        ("tiny-grpo", "--algorithm.kl_coefficient", "0.1", "--algorithm.kl_reward_coefficient", "0.1"),
        ("tiny-hpt", "--algorithm.name", "ppo", "--algorithm.engine_cap", "2.0"),
    ],
    ids="-".join,
)
def test_table_1_trains_through_one_trainer(choice: tuple[str, ...], odd_lengths: str, tmp_path: Path) -> None:
    recipe, *options = choice
    run = tmp_path / "run"
    changes = {"train.max_steps": 2, "train.eval_steps": 0, "train.tensorboard": False}
    finish([*command(run, recipe, **changes, verify__reward_function=odd_lengths), *options])
    lines = metrics(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert sum(line["train/updates"] for line in lines) > 0
    assert sum(line["train/updates_skipped"] for line in lines) == 0
    assert all(line["grad_norm"] is not None and line["loss"] is not None for line in lines)


def test_sft_then_grpo_has_two_stages_and_resumes_across_their_border(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    # Killed by a step's end in stage one, on the border and in stage two: steps 2, 3 and 4 of 6.
    finish(command(whole, "tiny-sft_then_grpo", train__save_steps=1, train__save_total_limit="null"))
    lines = metrics(whole)[1:]
    assert [line["gate/offline_ratio"] for line in lines] == [1, 1, 1, 0, 0, 0]
    assert [line["tokens/generated"] > 0 for line in lines] == [False] * 3 + [True] * 3
    for step in (2, 3, 4):
        shutil.copytree(whole, parted)
        for path in [parted / "final", *(parted / f"checkpoint-{later}" for later in range(step + 1, 7))]:
            shutil.rmtree(path)
        finish(resume(parted))
        assert [without_times(line) for line in metrics(parted)] == [without_times(line) for line in metrics(whole)]
        assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(parted).items())
        shutil.rmtree(parted)
    error = finish(resume(whole, "--train.max_steps", "8"), code=2).stderr
    assert "train.max_steps was 6 and is now 8" in error


def test_the_second_stage_starts_with_a_fresh_optimizer(odd_lengths: str, tmp_path: Path) -> None:
    """After one step of a fresh AdamW every moment is that step's alone."""
    run = tmp_path / "run"
    changes = {
        "train__max_steps": 4,
        "train__save_steps": 1,
        "train__questions_per_update": 6,
        # A step of equal rewards trains nothing.
        "verify__reward_function": odd_lengths,
    }
    finish(command(run, "tiny-sft_then_grpo", **changes))
    assert all(line["train/updates"] == 1 for line in metrics(run)[1:])
    states = {
        step: torch.load(run / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)["state"] for step in (3, 4)
    }
    assert {int(state["step"]) for state in states[3].values()} == {1}
    assert {int(state["step"]) for state in states[4].values()} == {2}


def test_a_run_ends_at_its_number_of_tokens(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(command(run, "tiny-sft", train__max_steps=50, train__max_tokens=600))
    spent = [line["tokens/generated"] + line["tokens/trained"] for line in metrics(run)[1:]]
    assert sum(spent[:-1]) < 600 <= sum(spent)
    assert "eval/tiny/accuracy" in metrics(run)[-1]
    before = weights(run)
    finish(resume(run))
    assert len(metrics(run)) == len(spent) + 1
    finish(resume(run, "--train.max_tokens", "700"))
    assert not torch.equal(before["model.norm.weight"], weights(run)["model.norm.weight"])


def test_ppo_resumes_with_its_value_head(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    finish(command(whole, "tiny-ppo", train__max_steps=4))
    finish(command(parted, "tiny-ppo", train__max_steps=2))
    finish(resume(parted, "--train.max_steps", "4"))
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(parted).items())
    assert any(line.get("value_loss", 0.0) > 0 for line in metrics(whole))


def test_dry_run_checks_everything_and_writes_nothing(tmp_path: Path) -> None:
    output = finish([*command(tmp_path / "run"), "--dry-run"]).stdout
    assert "6 questions, 24 completions" in output
    assert not (tmp_path / "run").exists()


def test_evaluations_have_the_runs_seed_unless_they_have_their_own(odd_lengths: str, tmp_path: Path) -> None:
    def before_training(name: str, seed: int, **changes: object) -> dict[str, float]:
        options = {
            "train.max_steps": 1, "train.save_steps": 0, "tiny.eval_problems": 40, "eval.num_generations": 4,
            "verify.reward_function": odd_lengths, "train.tensorboard": False,
        }  # fmt: skip
        finish(command(tmp_path / name, "tiny-sft", train__seed=seed, **options, **changes))
        return {key: value for key, value in metrics(tmp_path / name)[0].items() if key.startswith("eval/")}

    ours = [before_training(f"own-{seed}", seed, eval__seed=5) for seed in (0, 1)]
    runs = [before_training(f"run-{seed}", seed) for seed in (0, 1)]
    assert ours[0] == ours[1]
    assert runs[0] != runs[1]
