"""Files as TRL, verl and LUFFY have them, read as they are by whole runs, from the command line and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from chat_models import save_chat_model

import unigrad
from unigrad.cli import main
from unigrad.runs.folder import read_examples
from unigrad.runs.rollouts import RolloutLine

Row = dict[str, Any]
SYSTEM = {"role": "system", "content": "add"}
MARKERS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPTIONS: Mapping[str, Any] = {
    "model.name_or_path": "chat", "data.prompt_template": "chat", "data.eval": None, "train.eval_steps": 0,
    "train.max_steps": 2, "train.questions_per_step": 4, "rollout.num_generations": 2,
    "rollout.max_completion_length": 24, "data.max_demonstration_length": 64, "verify.workers": 1,
    "train.tensorboard": False,
}  # fmt: skip


def user(a: int) -> dict[str, str]:
    return {"role": "user", "content": f"{a}+4 1?"}


def worked(a: int) -> str:
    return f"1:{a}+4={a + 4};\\boxed{{{a + 4}}}"


def said(a: int) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": worked(a)}]


def trl_pair(a: int) -> Row:
    return {"prompt": [SYSTEM, user(a)], "completion": said(a), "solution": f"${a + 4}$", "topic": "sums"}


def trl_messages(a: int) -> Row:
    return {"messages": [SYSTEM, user(a), *said(a)], "topic": "sums"}


def verl(a: int) -> Row:
    return {
        "data_source": "sums",
        "prompt": [SYSTEM, user(a)],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(a + 4)},
        "extra_info": {"split": "train", "index": a, "answer": f"{a}+4=<<{a}+4={a + 4}>>{a + 4}\n#### {a + 4}"},
    }


def luffy(a: int) -> Row:
    return {
        "data_source": "sums",
        "prompt": [SYSTEM, user(a)],
        "target": said(a),
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(a + 4)},
        "extra_info": {"split": "default", "index": a},
    }


LAYOUTS = {
    "trl-pair": (trl_pair, "problem ← `prompt`; answer ← `solution`; demonstration ← `completion`"),
    "trl-messages": (trl_messages, "problem ← `messages`; answer ← `messages`; demonstration ← `messages`"),
    "verl": (verl, "answer ← `reward_model.ground_truth`; demonstration ← `extra_info.answer`"),
    "luffy": (luffy, "answer ← `reward_model.ground_truth`; demonstration ← `target`"),
}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model under a chat template."""
    folder = tmp_path_factory.mktemp("model") / "chat"
    save_chat_model(folder, CHAT, MARKERS)
    return folder


@pytest.fixture
def here(tmp_path: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chat").symlink_to(chat_model)


def write(layout: str, row: Callable[[int], Row]) -> str:
    rows = [row(a) for a in range(3, 15)]
    if layout.startswith("trl"):
        Path("data.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        return "data.jsonl"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "data.parquet")
    return "data.parquet"


def short(completions: list[list[dict[str, str]]], **columns: Any) -> list[float]:
    """As TRL hands them over for prompts that are chats."""
    assert [[part["role"] for part in chat] for chat in completions] == [["assistant"]] * len(completions)
    assert all(
        columns.get("topic", ["sums"] * len(completions))[number] == "sums" for number in range(len(completions))
    )
    return [1.0 / (1 + len(chat[0]["content"])) for chat in completions]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_on_it(layout: str, here: None) -> None:
    row, columns = LAYOUTS[layout]
    options = [text for key, value in OPTIONS.items() for text in (f"--{key}", json.dumps(value).strip('"'))]
    assert main(["train", "tiny-hpt", "--data.train", write(layout, row), "--output_dir", "run", *options]) == 0
    run = unigrad.Run("run")
    (example,) = read_examples(Path("run"))
    assert columns in example.columns
    first = [line for step in (1, 2) for question in run.rollouts(step) for line in question.lines]
    assert {line.prompt.split("<|user|>")[0] for line in first} == {"<|system|>add<|end|>"}
    checked = {line.problem: line for line in first if line.sample is None}
    assert checked, "no question was trained on its demonstration"
    for line in checked.values():
        assert_demonstrated(line)
    assert {metrics["gate/no_demonstration"] for metrics in run.metrics if metrics["step"]} == {0.0}


def assert_demonstrated(line: RolloutLine) -> None:
    assert line.problem is not None
    a = int(line.problem.split("+")[0])
    assert line.answer.strip("$") == str(a + 4)
    assert line.completion in (worked(a), f"{a}+4={a + 4}\nThe final answer is \\boxed{{{a + 4}}}.")
    assert line.verdict == "right"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_from_python_with_a_conversational_reward(layout: str, here: None) -> None:
    row, _ = LAYOUTS[layout]
    rows = [row(a) for a in range(3, 15)]
    weights = {"verify.reward_weights": [1.0, 0.2], "method.solved_at": 1.0, "train.max_steps": 1}
    run = unigrad.train("tiny-hpt", train=rows, reward=["verify", short], output_dir="run", **{**OPTIONS, **weights})
    assert 0 < run.metrics[-1]["reward/short/mean"] <= 1
    for question in run.rollouts(1):
        for line in question.lines:
            if line.sample is None:
                assert line.reward >= 1
