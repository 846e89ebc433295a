"""What would give away a token, a key or a password is refused, unshown, before anything is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.config.credentials import check_no_credentials
from unigrad.errors import ConfigError

LETTERS = "q7Rz" * 9
CREDENTIALS = [
    (f"hf_{LETTERS[:34]}", "HF_TOKEN"),
    (f"sk-proj-{LETTERS[:20]}-_{LETTERS}", "OPENAI_API_KEY"),
    (f"sk-{LETTERS}", "OPENAI_API_KEY"),
    (f"sk-ant-api03-{LETTERS}", "ANTHROPIC_API_KEY"),
    (f"https://ghp_{LETTERS}@github.com/us/data", "GITHUB_TOKEN"),
    (f"github_pat_{LETTERS}", "GITHUB_TOKEN"),
    ("AKIAQ7RZQ7RZQ7RZQ7RZ", "AWS_ACCESS_KEY_ID"),
    (f"wandb_v1_{LETTERS}", "WANDB_API_KEY"),
    ("https://me:q7Rz@data.example/set.jsonl", "environment variable"),
    ("s3://:q7Rz@bucket/set.jsonl", "environment variable"),
    ("https://data.example/set.jsonl?v=1&X-Amz-Signature=q7Rz", "environment variable"),
    ("https://data.example/set.jsonl?token=q7Rz", "environment variable"),
]


@pytest.mark.parametrize(("text", "instead"), CREDENTIALS)
@pytest.mark.parametrize(
    "command",
    [
        ("train", "--model.name_or_path"), ("train", "--wandb.api_key"), ("compare", "--methods", "sft", "--seeds"),
        ("evaluate", "tiny", "--suite"), ("report", "x", "--out"),
    ],
)  # fmt: skip
def test_on_the_command_line(
    command: tuple[str, ...], text: str, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([*command, text], [*command[:-1], f"{command[-1]}={text}"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"error: {command[-1]} holds " in error
        assert instead in error
        assert "q7Rz" not in error
        assert "Q7RZ" not in error


@pytest.mark.parametrize(
    "recipe",
    [
        "data: {train: TEXT}", "data: {train: [{path: tiny}, {path: TEXT}]}", "rollout: {stop: [x, TEXT]}",
        "methods: {grpo: {model: {name_or_path: TEXT}}}", "output_dir: runs/TEXT",
    ],
)  # fmt: skip
def test_in_a_recipe(recipe: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    for text, instead in CREDENTIALS:
        file.write_text(recipe.replace("TEXT", f'"{text}"'), encoding="utf-8")
        with pytest.raises(ConfigError, match=instead) as error:
            load_config(str(file))
        assert str(file) in str(error.value)
        assert "q7rz" not in str(error.value).lower()


def test_from_python() -> None:
    with pytest.raises(ConfigError, match=r"tiny: data\.train holds a token of the hub"):
        load_config("tiny", {"data.train": CREDENTIALS[0][0]})


@pytest.mark.parametrize(
    "text",
    [
        "hf_checkpoints_llama_hf_run_2", "runs/hf_model", "sk-learn-experiments-long-name",
        "task-9f2e5d1c8b7a6f5e4d3c2b1a",
        "~/.cache/models--us--m/snapshots/0123456789abcdef0123456789abcdef01234567", "hf://datasets/us/set@main",
        "Solve: {problem}\nGive a/b : c@d", "https://data.example/set.jsonl?split=train&tokens=5", "ssh://git@host/x",
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    check_no_credentials(text, "here")


@pytest.mark.parametrize("text", ["a://" * 60_000, "a://" + ":" * 200_000, "a://x?" + "&token" * 40_000])
def test_no_text_takes_long(text: str) -> None:
    check_no_credentials(text, "here")
