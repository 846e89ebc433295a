"""`unigrad sample`: a model's own words."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.data.tiny import MODEL_PATH

GREEDY = ("--temperature", "0", "--max-completion-length", "24")


def sampled(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["sample", *options]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_problems_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    one = sampled(capsys, "tiny", "--problem", "3+4?", *GREEDY)
    two = sampled(capsys, "tiny", "--problem", "3+4?", "--problem", "9-2?", *GREEDY)
    assert one
    assert two.startswith(one)
    assert two != one
    drawn = sampled(capsys, "tiny", "--problem", "3+4?", "--samples", "3", "--temperature", "2")
    assert drawn == sampled(capsys, "tiny", "--problem", "3+4?", "--samples", "3", "--temperature", "2")
    assert "no room" in sampled(capsys, "tiny", "--problem", "1+" * 5000 + "1?", code=2)
    assert "unknown option --problme; did you mean --problem?" in sampled(capsys, "tiny", "--problme", "x", code=2)


def test_lines_that_are_piped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("3+4?\n\n9-2?\n"))
    piped = sampled(capsys, "tiny", *GREEDY)
    assert piped == sampled(capsys, "tiny", "--problem", "3+4?", "--problem", "9-2?", *GREEDY)


def test_a_runs_model_is_prompted_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(MODEL_PATH, tmp_path / "run" / "final")
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "run" / "final")
    keys = {"data.prompt_template": "chat", "data.system_prompt": "add"}
    (tmp_path / "run" / "config.yaml").write_text(load_config("tiny-hpt", keys).dump())
    own = sampled(capsys, str(tmp_path / "run" / "final"), "--problem", "3+4?", *GREEDY)
    assert own == sampled(capsys, "tiny", "--problem", "add\n3+4?", *GREEDY)


def test_a_chat_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MODEL_PATH, tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "m")
    options = (str(tmp_path / "m"), "--prompt-template", "chat", "--temperature", "0", "--max-completion-length", "8")
    monkeypatch.setattr("sys.stdin", io.StringIO("3+4?\n9-2?\n"))
    talk = sampled(capsys, *options)
    first = sampled(capsys, *options, "--problem", "3+4?")
    assert talk.startswith(first)
    second = talk.removeprefix(first)
    whole = f"3+4?\n{first.removesuffix(chr(10))}\n9-2?"
    assert second == sampled(capsys, "tiny", "--prompt-template", "plain", *options[3:], "--problem", whole)
