"""The command line as a user meets it: exit codes, one-line errors, instant help."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from unigrad.cli import main
from unigrad.config import config_keys
from unigrad.data.templates import template_names
from unigrad.hybrid import METHODS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["--versoin"], "unknown option '--versoin'; see unigrad --help"),
        (["train", "tiny-htp"], "unknown recipe 'tiny-htp'; did you mean 'tiny-hpt'?"),
        (["train", "--train.max_stepz", "3"], "unknown key --train.max_stepz; did you mean --train.max_steps?"),
        (["train", "--max_steps=3"], "unknown key --max_steps; did you mean --train.max_steps?"),
        (["train", "--resum", "x"], "unknown key --resum; did you mean --resume?"),
        (["train", "--train.max_steps"], "argument --train.max_steps: expected one argument"),
        (["train", "--train.max_steps", "-1"], "train.max_steps = -1: input should be greater than or equal to 1"),
        (["train", "tiny-hpt", "tiny-sft"], "unexpected argument 'tiny-sft'; keys are given as --section.key VALUE"),
        (["train", "--resume", "nowhere"], "--resume nowhere: no run there (it has no config.yaml)"),
        (["train", "--resume", "a", "tiny-hpt"], "its configuration from the run; leave out the recipe 'tiny-hpt'"),
        (["train", "--method.name", "htp"], "unknown method 'htp'; did you mean 'hpt'?"),
        (["train", "--method.gate", "swich"], "unknown gate 'swich'; did you mean 'switch'?"),
        (["train", "--algorithm.name", "gropo"], "unknown algorithm 'gropo'; did you mean 'grpo'?"),
        (["train", "--algorithm.name", "reinforce", "--algorithm.clip_low", "0.1"], "has no option 'clip_low'"),
        (["train", "--rollout.num_generations", "1"], "rollout.num_generations = 1: dr_grpo compares the rollouts"),
        (["train", "--data.prompt_template", "boxd"], "no prompt template 'boxd'; the nearest is 'boxed'"),
        (["train", "--data.train", "nowhere.jsonl"], "nowhere.jsonl"),
        (["train", "--model.name_or_path", "./nowhere"], "nowhere"),
        (["train", "--verify.reward_function", "json.lodas"], "the nearest is 'loads'"),
        (["algorithms", "--jsno"], "unknown option --jsno; did you mean --json?"),
        (["algorithms", "sft"], "unexpected argument 'sft'; options alone follow"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("unigrad: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_lists_every_key_with_meaning_type_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "tiny-sft", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for key, field in config_keys():
        assert f"--{key} " in text
        assert " ".join((field.description or "").split()) in text
    assert "--method.name str Which trajectories each question trains on" in text
    assert "a row of `unigrad algorithms --methods` (default: sft)" in text
    for name in template_names():
        assert name in text


def test_help_and_usage_errors_never_import_torch() -> None:
    code = (
        "import sys\nfrom unigrad.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(3 if 'torch' in sys.modules or 'transformers' in sys.modules else 0)"
    )
    for arguments in (
        ["--help"], ["train", "--help"], ["train", "--train.max_stepz", "3"],
        ["evaluate", "--help"], ["evaluate", "tiny", "--suite", "papr"],
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, arguments


def test_methods_as_table_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "--methods", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(METHODS)
    first, second = (row for row in rows if row["name"] == "sft_then_grpo")
    assert (first["on_policy"], first["offline"], first["share"]) == (None, {"sft": 1.0}, 0.5)
    assert (second["on_policy"], second["offline"], second["share"]) == ("grpo", {}, 0.5)
    assert main(["algorithms", "--methods"]) == 0
    assert "drop_failed" in capsys.readouterr().out


def test_algorithms_as_table_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["sft"]["reference"] == "π_θ"
    assert rows["grpo"]["options"]["aggregation"] == "sequence_mean"
    assert main(["algorithms"]) == 0
    assert "dr_grpo" in capsys.readouterr().out
