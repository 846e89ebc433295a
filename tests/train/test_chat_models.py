"""Whole runs of models whose tokenizer and chat template disagree, or are not what a template expects."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_models import save_chat_model
from safetensors.torch import load_file
from transformers import GenerationConfig

from unigrad.cli import main

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{{ '' }}{% endif %}"
)
SPECIAL = ["<|end|>", "<think>", "</think>"]
OPTIONS = (
    "--data.prompt_template", "chat", "--data.train", "data.jsonl", "--data.eval", "null", "--train.eval_steps", "0",
    "--train.tensorboard", "false", "--train.questions_per_step", "4", "--rollout.max_completion_length", "24",
)  # fmt: skip


def make_model(folder: Path, chat_template: str, resize: bool = True) -> Any:
    return save_chat_model(folder, chat_template, SPECIAL, resize=resize)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"problem": f"{i} + 1?", "answer": str(i + 1), "solution": f"<think>\nsum</think>{i + 1}<|end|>"}
        for i in range(4)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(*options: str, code: int = 0) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        assert main(["train", *options]) == code, stderr.getvalue()
    return stdout.getvalue(), stderr.getvalue()


def lines(run: str, kind: str) -> list[dict[str, Any]]:
    files = sorted(Path(run, "rollouts").iterdir())
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def thinks(prompts: Sequence[str], completions: Sequence[str], **_: object) -> list[float]:
    return [float("<think>" in completion) / 2 for completion in completions]


def test_rollouts_and_demonstrations_end_with_the_turn(here: Path) -> None:
    tokenizer = make_model(here / "m", CHAT)
    output, _ = train(
        "tiny-hpt", "--model.name_or_path", "m", "--output_dir", "run", *OPTIONS, "--train.max_steps", "2",
        "--rollout.num_generations", "24", "--rollout.temperature", "50", "--verify.reward_function",
        f"{__name__}.thinks",
    )  # fmt: skip
    assert output.count("the chat template ends a turn with '<|end|>', the tokenizer's EOS is '</s>': ") == 1
    demonstrations, rollouts = lines("run", "demonstration"), lines("run", "rollout")
    assert len(demonstrations) == 8
    for line in demonstrations:
        # `<think>` stands once, and the end is one token, which is none of the text.
        assert line["prompt"].endswith("<|end|>\nassistant: <think>\n")
        assert line["completion"] == f"sum</think>{line['answer']}"
        assert line["tokens"] == len(tokenizer(line["completion"], add_special_tokens=False).input_ids) + 1
    # At this temperature each of a hundred tokens is as likely as any other, in 192 completions of at most 24.
    ended = [line for line in rollouts if not line["truncated"]]
    assert 20 < len(ended) < len(rollouts) == 192
    assert all(line["pieces"][-1] == "" for line in ended)
    assert not any("<|end|>" in line["completion"] or "</s>" in line["completion"] for line in rollouts)
    assert all("".join(line["pieces"]) == line["completion"] for line in rollouts)
    # What a reward function sees of them, and what is written down.
    assert {line["reward"] for line in rollouts if "<think>" in line["completion"]} == {0.5}
    assert {line["reward"] for line in rollouts if "<think>" not in line["completion"]} == {0.0}
    # The trained model ends there as well, wherever it is loaded.
    for saved in ("final", "checkpoint-2"):
        ends = GenerationConfig.from_pretrained(f"run/{saved}").eos_token_id
        assert ends == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")]


def test_without_the_chat_template_nothing_ends_there(here: Path) -> None:
    tokenizer = make_model(here / "m", CHAT)
    output, _ = train(
        "tiny-hpt", "--model.name_or_path", "m", "--output_dir", "run", *OPTIONS, "--data.prompt_template", "plain",
        "--train.max_steps", "1", "--rollout.num_generations", "48", "--rollout.temperature", "50",
    )  # fmt: skip
    assert "ends a turn" not in output
    assert any("<|end|>" in line["completion"] for line in lines("run", "rollout"))
    assert GenerationConfig.from_pretrained("run/final").eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("method", ["hpt", "sft", "grpo"])
def test_a_token_that_the_model_does_not_embed_is_refused_at_the_start(here: Path, method: str) -> None:
    make_model(here / "m", "{{ messages[0].content }}\n", resize=False)
    for template, what in (("chat", "the demonstration"), ("<think>{problem}", "the prompt")):
        options = ("--model.name_or_path", "m", "--output_dir", "run", *OPTIONS, "--data.prompt_template", template)
        for mode in ((), ("--dry-run",)):
            _, error = train(f"tiny-{method}", *options, *mode, code=2)
            assert error.count("\n") == 1
            assert f"train: {what} of problem data.jsonl:1 holds the token '<" in error
            assert "but the model embeds only 101: " in error
    assert not Path("run").exists()


def test_an_end_that_the_model_does_not_embed_is_refused_where_nothing_is_demonstrated(here: Path) -> None:
    answers_alone = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}\n{% endfor %}"
    )
    make_model(here / "m", answers_alone, resize=False)
    Path("bare.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n')
    options = ("--model.name_or_path", "m", "--output_dir", "run", *OPTIONS, "--data.train", "bare.jsonl")
    for more, what in (
        ((), "the end of a completion"),
        (("--data.end_of_turn", "</think>", "--data.prompt_template", "plain"), "data.end_of_turn"),
    ):
        _, error = train("tiny-grpo", *options, *more, "--dry-run", code=2)
        assert f"unigrad: error: {what} holds the token '<" in error
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert main(["evaluate", "m", "--suite", "bare.jsonl", "--prompt-template", "chat", "--out", "out"]) == 2
    assert "unigrad: error: bare: the end of a completion holds the token '<|end|>'" in said.getvalue()


@pytest.mark.parametrize(
    ("chat_template", "said"),
    [
        (
            "{{ raise_exception('System role not supported') }}",
            "raises TemplateError: System role not supported; use ",
        ),
        ("{{ bos_token }}", "leaves out the problem "),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_at_the_start(here: Path, chat_template: str, said: str) -> None:
    make_model(here / "m", chat_template)
    _, error = train("tiny-hpt", "--model.name_or_path", "m", "--output_dir", "run", *OPTIONS, code=2)
    assert error.count("\n") == 1
    assert f"unigrad: error: the chat template of m {said}" in error
    assert not Path("run").exists()


def test_a_run_that_is_resumed_on_another_day_is_the_same_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.chat_template_utils as clock

    class Day(clock.datetime):  # type: ignore[name-defined, misc]
        today = 13

        @classmethod
        def now(cls, tz: object = None) -> Day:
            return cls(2026, 11, cls.today)

    monkeypatch.setattr(clock, "datetime", Day)
    make_model(here / "m", "Day {{ strftime_now('%d') }}. " + CHAT)
    options = ("tiny-hpt", "--model.name_or_path", "m", *OPTIONS, "--rollout.num_generations", "2")
    train(*options, "--output_dir", "whole", "--train.max_steps", "4")
    train(*options, "--output_dir", "parted", "--train.max_steps", "2")
    Day.today = 14
    train("--resume", "parted", "--train.max_steps", "4")
    assert {line["prompt"][:7] for run in ("whole", "parted") for line in lines(run, "rollout")} == {"Day 26."}
    whole, parted = (load_file(f"{run}/final/model.safetensors") for run in ("whole", "parted"))
    assert all(torch.equal(tensor, parted[name]) for name, tensor in whole.items())
