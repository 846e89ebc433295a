"""Runs as a Python program starts them: objects in, a run back, exceptions instead of exit codes."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import unigrad
from unigrad.cli import main
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError, RewardError
from unigrad.types import Problem

SMALL = {
    "verify.workers": 1,
    "rollout.max_completion_length": 16,
    "rollout.num_generations": 2,
    "train.max_steps": 2,
    "train.questions_per_step": 4,
    "train.eval_steps": 0,
    "train.tensorboard": False,
}
EVALUATED = {**SMALL, "train.eval_steps": 2}
ROWS = [
    {"question": f"Compute: {a} + 3", "gold": a + 3, "solution": f"It is \\boxed{{{a + 3}}}", "extra": a}
    for a in range(10, 20)
]


def problem(row: dict[str, object]) -> Problem:
    return Problem(id=f"n{row['extra']}", problem=str(row["question"]), answer=str(row["gold"]), level=2)


def full(completions: list[str], **columns: object) -> list[float]:
    return [1.0] * len(completions)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    page = (Path(unigrad.__file__).parents[1] / "docs" / "from-python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # `compare` starts processes, which find the package by themselves only where it is installed.
    monkeypatch.setenv("PYTHONPATH", str(Path(unigrad.__file__).parents[1]))
    names: dict[str, object] = {"__name__": "__main__"}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "from-python.md", "exec"), names)
    run = names["run"]
    assert isinstance(run, unigrad.Run)
    assert [line["step"] for line in run.metrics] == [1, 2, 3]
    assert {"reward/verify/mean", "reward/short/mean"} <= run.metrics[-1].keys()
    assert Path("report.html").stat().st_size > 10_000


@pytest.mark.parametrize("given", ["mappings", "problems", "dataset", "frame", "generator", "path"])
def test_problems_of_every_kind_are_what_the_run_trains_on(given: str, folder: Path) -> None:
    rows: object = ROWS
    if given == "problems":
        rows = [problem(row) for row in ROWS]
    elif given == "dataset":
        rows = Dataset.from_list(ROWS)
    elif given == "frame":
        rows = Dataset.from_list(ROWS).to_pandas()
    elif given == "generator":
        rows = (row for row in ROWS)
    elif given == "path":
        rows = folder.with_suffix(".jsonl")
        rows.write_text("\n".join(map(json.dumps, ROWS)))
    run = unigrad.train("tiny-grpo", train=rows, eval=ROWS[:3], reward=full, output_dir=folder, **EVALUATED)
    lines = [line for question in run.rollouts(1) for line in question.rollouts]
    assert {line.answer for line in lines} <= {str(row["gold"]) for row in ROWS}
    assert {line.prompt.split("Compute: ")[1][:6] for line in lines} <= {f"{row['extra']} + 3" for row in ROWS}
    assert run.accuracy is not None
    if given == "problems":
        assert {question.id for question in run.rollouts(1)} <= {f"n{row['extra']}" for row in ROWS}
        assert {question.level for question in run.rollouts(1)} == {2}


def test_a_run_on_objects_is_repeated_by_its_configuration(folder: Path) -> None:
    run = unigrad.train(
        "tiny-hpt", train=ROWS, eval={"few": ROWS[:2], "more": ROWS[2:6]}, output_dir=folder, **EVALUATED
    )
    assert {"eval/few/accuracy", "eval/more/accuracy"} <= run.metrics[0].keys()
    again = folder.with_name("again")
    assert main(["train", str(folder / "config.yaml"), "--output_dir", str(again)]) == 0
    ours, theirs = run.policy.model.state_dict(), unigrad.Run(again).policy.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_model_object_trains_as_a_copy_of_what_it_is(folder: Path) -> None:
    source = model_source("tiny")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokenizer = AutoTokenizer.from_pretrained(source)
    run = unigrad.train("tiny-sft", train=ROWS, model=model, tokenizer=tokenizer, output_dir=folder, **SMALL)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    started = AutoModelForCausalLM.from_pretrained(run.config.model.name_or_path, dtype=torch.float32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in started.state_dict().items())
    trained = run.policy.model.get_input_embeddings().weight
    assert 0 < (trained - before["model.embed_tokens.weight"]).abs().max() < 0.1


def test_a_reward_of_this_process_alone_is_handed_over_again(folder: Path) -> None:
    def longest(completions: list[str], extra: list[int], **columns: object) -> list[float]:
        seen.extend(extra)
        return [min(1.0, len(text) / 20) for text in completions]

    seen: list[int] = []
    run = unigrad.train("tiny-grpo", train=ROWS, reward=longest, output_dir=folder, **{**SMALL, "train.save_steps": 1})
    assert run.config.verify.reward_function == "python:longest"
    assert set(seen) <= {row["extra"] for row in ROWS}
    more = {"train.max_steps": 3}
    again = unigrad.train(resume=folder, reward=longest, **more)
    assert [line["step"] for line in again.metrics][-1] == 3
    with pytest.raises(ConfigError, match=r"reward_function was 'python:longest' and is now 'python:<lambda>'"):
        unigrad.train(resume=folder, reward=lambda completions, **columns: [0.0] * len(completions), **more)


def test_another_process_cannot_go_on_with_such_a_reward(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from unigrad.verify import rewards

    with pytest.raises(ValueError, match=r"'python:nobody' was handed over from Python.*unigrad\.train\(resume="):
        rewards.load_reward_function("python:nobody")


def test_functions_are_named_by_where_they_can_be_imported() -> None:
    from unigrad.verify.rewards import hand_over, load_reward_function

    first, second = (lambda completions: [1.0]), (lambda completions: [2.0])
    assert hand_over([full, first, second]) == [f"{__name__}.full", "python:<lambda>", "python:<lambda>-2"]
    assert load_reward_function("python:<lambda>") is first
    assert load_reward_function("python:<lambda>-2") is second


def test_what_a_reward_raises_comes_through_as_it_is(folder: Path) -> None:
    class Broken(Exception):
        pass

    def broken(completions: list[str], **columns: object) -> list[float]:
        raise Broken("a bug of mine")

    with pytest.raises(Broken, match="a bug of mine") as raised:
        unigrad.train("tiny-grpo", reward=broken, output_dir=folder, **SMALL)
    assert any("checkpoint" in note for note in raised.value.__notes__)
    with pytest.raises(RewardError, match="returned 0 rewards"):
        unigrad.train("tiny-grpo", reward=lambda completions: [], output_dir=folder.with_name("b"), **SMALL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipe": "tiny-htp"}, "did you mean"),
        ({"train.max_step": 3}, "did you mean 'train.max_steps'"),
        ({"train.max_steps": "many"}, "train.max_steps"),
        ({"trian": ROWS}, "unknown argument 'trian'; did you mean 'train'"),
        ({"max_steps": 3}, "did you mean 'train.max_steps'"),
        ({"train.max_steps": object()}, "train.max_steps: Object of type object"),
        ({"train": [1, 2]}, r"train\[0\]: a row is a mapping"),
        ({"train": [{"problem": "1+1?", "answer": object()}]}, r"train\[0\]: a value of type object"),
        ({"train": []}, "names no problem set"),
        ({"model": 3}, "a hub id, a folder, or a transformers model, not int"),
        ({"tokenizer": 3}, "tokenizer: only beside a model object"),
        ({"reward": "nowhere.reward"}, "nowhere"),
        ({"resume": "nothing-here"}, "no run there"),
        ({"recipe": "tiny-hpt", "resume": "nothing-here"}, "leave out the recipe"),
        ({"resume": "nothing-here", "train": ROWS}, "takes train from the run"),
    ],
)
def test_bad_input_is_one_line(arguments: dict[str, object], said: str, folder: Path) -> None:
    taken = {} if "resume" in arguments else {"output_dir": folder}
    with pytest.raises(ConfigError, match=said) as raised:
        unigrad.train(**taken, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert not (folder / "config.yaml").exists()


def test_a_folder_that_holds_a_run_is_left_as_it_is(folder: Path) -> None:
    run = unigrad.train("tiny-sft", train=ROWS, output_dir=folder, **SMALL)
    data = (folder / "data" / "train.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"already holds a run; go on with unigrad\.train\(resume="):
        unigrad.train("tiny-sft", train=ROWS[:5], output_dir=folder, **SMALL)
    assert (folder / "data" / "train.jsonl").read_bytes() == data
    assert run.accuracy is None
    assert list(run.frame().index) == [1, 2]
    with pytest.raises(ConfigError, match="no rollouts of step 9; there are 1 to 2"):
        run.rollouts(9)


def test_samples_follow_their_seed_and_greedy_needs_none(folder: Path) -> None:
    run = unigrad.train("tiny-sft", train=ROWS, output_dir=folder, **SMALL)
    asked = ["Compute: 12 + 3", "Compute: 1 + 1"]
    first, again, other = (run.sample(asked, n=3, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [len(group) for group in first] == [3, 3]
    greedy = run.sample(asked[0], temperature=0)
    assert greedy == run.sample(asked[:1], temperature=0, seed=5)
    assert greedy == unigrad.Run(folder).sample(asked[0], temperature=0)


def test_the_packages_show_what_they_are_called_with() -> None:
    assert "output_dir" in inspect.signature(unigrad.train).parameters
    assert "suite" in inspect.signature(unigrad.evaluate).parameters
    assert "as `unigrad train RECIPE` does" in (unigrad.train.__doc__ or "")
    assert {"train", "evaluate", "compare", "report", "Run"} <= set(dir(unigrad))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        unigrad.trian  # noqa: B018


def test_an_evaluation_of_rows_says_what_its_file_holds(folder: Path) -> None:
    run = unigrad.train("tiny-sft", train=ROWS, output_dir=folder, **SMALL)
    keys = {"eval.max_completion_length": 16, "eval.num_generations": 2}
    results = unigrad.evaluate(run, ROWS[:4], out=folder.with_name("evaluation"), **keys)
    assert results["benchmarks"]["evaluation"]["samples"] == 2
    assert Path(results["model"]) == run.final
    with pytest.raises(ConfigError, match=r"unknown key 'eval.temprature'; did you mean 'eval.temperature'"):
        unigrad.evaluate(run, ROWS[:4], **{"eval.temprature": 0})
