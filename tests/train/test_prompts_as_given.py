"""Whole runs on a user's own data: what the model gets, and what the run says of it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from chat_models import save_chat_model
from transformers import AutoTokenizer

from unigrad.cli import main
from unigrad.runs.folder import read_examples

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if not enable_thinking|default(true) %}No thought.{% endif %}{% endif %}"
)
SMALL = (
    "--output_dir", "run", "--data.train", "chats.jsonl", "--train.tensorboard", "false", "--train.max_steps", "1",
    "--train.questions_per_step", "4", "--rollout.num_generations", "2", "--rollout.max_completion_length", "24",
)  # fmt: skip
OWN_CHAT = (
    "--model.name_or_path", "m", "--data.prompt_template", "Q: {problem}", "--data.chat_template_kwargs",
    "{enable_thinking: false}", "--method.name", "grpo",
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_chat_model(Path("m"), CHAT, ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"])
    system = {"role": "system", "content": "add"}
    rows = [
        {
            "prompt": [system, {"role": "user", "content": f"{i} + 1?"}],
            "completion": [{"role": "assistant", "content": f"sum {i + 1}"}],
            "answer": str(i + 1),
            "topic": "sums",
        }
        for i in range(4)
    ]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bare = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(2, 6)]
    Path("bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    return tmp_path


def unigrad(*options: str, code: int = 0) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        assert main([*options]) == code, stderr.getvalue()
    return stdout.getvalue(), stderr.getvalue()


def rollouts(run: str) -> list[dict[str, Any]]:
    (file,) = Path(run, "rollouts").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_gets_the_prompts_as_given_and_says_so(here: Path) -> None:
    Path("judge.py").write_text(
        "def chats(prompts, completions, topic):\n"
        "    assert all(p[0] == {'role': 'system', 'content': 'add'} for p in prompts)\n"
        "    return [len(c[0]['content']) % 2 for c in completions]\n"
    )
    said, _ = unigrad("train", *SMALL, *OWN_CHAT, "--verify.reward_function", "judge.py:chats")
    prompts = {f"<|system|>add<|end|><|user|>Q: {i} + 1?<|end|><|assistant|>No thought." for i in range(4)}
    assert {line["prompt"] for line in rollouts("run")} == prompts
    (example,) = read_examples(Path("run"))
    assert example.columns == (
        "problem ← `prompt`; answer ← `answer`; demonstration ← `completion`; "
        "a system prompt or earlier turns in 4 of 4; others, for reward functions: `topic`"
    )
    assert example.prompt in prompts
    assert example.demonstration is not None
    assert example.demonstration.endswith("<|end|>")
    for line in (
        f"train: {example.columns}",
        f"  prompt         {example.prompt}",
        f"  demonstration  {example.demonstration}",
        f"  answer         {example.answer}",
        "data.prompt_template: your text is the user's message in the model's chat template",
        "held-out: none (data.eval is null), so no accuracy is measured",
    ):
        assert line in said
    # Whatever is evaluated later is prompted alike.
    options = ("--suite", "bare.jsonl", "--out", "out", "--max-completion-length", "8")
    _, said = unigrad("evaluate", "run/final", *options)
    assert '{"enable_thinking": false}' in said
    assert json.loads(Path("out/settings.json").read_text())["protocol"]["chat_template_kwargs"] == {
        "enable_thinking": False
    }
    _, error = unigrad("evaluate", "run/final", *options, "--chat-template-kwargs", "{}", code=2)
    assert "whose chat_template_kwargs was {'enable_thinking': False} and is now {}" in error
    # And the run goes on with them, and with its function; not with others.
    unigrad("train", "--resume", "run")
    tokenizer = AutoTokenizer.from_pretrained("run/checkpoint-1")
    tokenizer.chat_template = CHAT.replace("No thought.", "No thoughts.")
    tokenizer.save_pretrained("run/checkpoint-1")
    Path("run/checkpoint-1/checksums.json").unlink()
    _, error = unigrad("train", "--resume", "run", code=2)
    assert "--resume run: the prompt of problem chats.jsonl:" in error
    assert "No thought.' and is now " in error


def test_a_bad_mapping_is_one_line(here: Path) -> None:
    _, error = unigrad("train", *SMALL, "--data.chat_template_kwargs", "enable_thinking", code=2)
    assert "data.chat_template_kwargs = 'enable_thinking': must be a mapping, {NAME: VALUE, …}" in error


def test_what_is_lost_is_said(here: Path) -> None:
    said, _ = unigrad("train", *SMALL, "--data.eval", "bare.jsonl", "--data.train", "bare.jsonl", "--dry-run")
    assert "WARNING: data.eval: 4 of the 4 problems of bare (100%) are in data.train too" in said
    assert (
        "WARNING: bare.jsonl holds no demonstration that fits (column `solution`), so hpt has none to train on" in said
    )
    said, _ = unigrad("train", *SMALL, "--data.eval", "bare.jsonl", "--train.max_steps", "1", "--dry-run")
    assert "WARNING: data.eval: 2 of the 4 problems of bare (50%)" in said
    assert "train: WARNING: 4 problems bring a system prompt or earlier turns" in said
    assert "no demonstration that fits" not in said


def test_the_embedded_problems_are_for_the_embedded_model(here: Path) -> None:
    Path("own.yaml").write_text("base: tiny\ndata:\n  train: chats.jsonl\ntrain: {max_steps: 1}\n")
    assert "held-out: none" in unigrad("train", "own.yaml", "--dry-run")[0]
    assert "held-out: 200 problems" in unigrad("train", "own.yaml", "--data.eval", "tiny", "--dry-run")[0]
    assert "held-out: 200 problems" in unigrad("train", "own.yaml", "--data.train", "tiny", "--dry-run")[0]
    _, error = unigrad("train", "--data.eval", "bare.jsonl", "--train.eval_steps", "0", "--dry-run", code=2)
    assert "data.eval is given, and train.eval_steps is 0, so it would never be read; --train.eval_steps 10" in error


def test_a_folder_that_is_taken(here: Path) -> None:
    fast = ("--data.train", "tiny", "--data.eval", "null", "--method.name", "sft", "--tiny.train_problems", "8")
    unigrad("train", *SMALL, *fast)
    Path("run-2").mkdir()
    _, error = unigrad("train", *SMALL, *fast, code=2)
    assert "go on with `unigrad train --resume run` or give another --output_dir, such as run-3" in error
    before = {file: file.stat().st_mtime_ns for file in Path("run").rglob("*")}
    for options in ((*SMALL, *fast), ("--resume", "run")):
        said, _ = unigrad("train", *options, "--dry-run")
        assert "dry run: everything checks; nothing was written" in said
        assert ("already holds a run" in said) == (options[0] != "--resume")
    assert before == {file: file.stat().st_mtime_ns for file in Path("run").rglob("*")}
