"""`unigrad evaluate` takes the configuration's keys, each with a second, short spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unigrad.cli import main
from unigrad.cli.evaluate import OPEN
from unigrad.config import Config, config_keys
from unigrad.evaluate.protocol import Protocol


def evaluate(*options: str) -> int:
    return main(["evaluate", "tiny", "--suite", "tiny", "--data.max_eval_problems", "2", *options])


def protocol(*options: str) -> dict[str, Any]:
    assert evaluate(*options, "--eval.max_completion_length", "12", "--out", "out") == 0
    found: dict[str, Any] = json.loads(Path("out", "settings.json").read_text())["protocol"]
    return found


@pytest.mark.parametrize(
    ("dotted", "short", "value", "message"),
    [
        ("--eval.num_generations", "--samples", "0", "{} 0: must be above 0"),
        ("--eval.temperature", "--temperature", "-1", "{} -1.0: must be at least 0"),
        ("--eval.temperature", "--temperature", "inf", "{} inf: input should be a finite number"),
        ("--eval.top_p", "--top-p", "1.5", "{} 1.5: must be above 0 and at most 1"),
        ("--model.rope_theta", "--rope-theta", "0", "{} 0.0: must be above 0"),
        ("--eval.seed", "--seed", "1.5", "argument {}: invalid int value: '1.5'"),
        ("--eval.top_p", "--top-p", "null", "argument {}: invalid float value: 'null'"),
        ("--verify.no_box", "--no-box", "rong", "{} 'rong': must be one of last_number, wrong; did you mean 'wrong'?"),
        ("--model.dtype", "--dtype", "float", "{} 'float': must be one of auto, float32, bfloat16; did you mean"),
        ("--rollout.max_concurrent_tokens", "--max-concurrent-tokens", "9", "--max-concurrent-tokens 9 holds no"),
    ],
)
def test_a_bad_value_is_refused_in_the_spelling_it_has(
    dotted: str, short: str, value: str, message: str,
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for option in (dotted, short):
        assert evaluate(option, value) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"unigrad: error: {message.format(option)}")
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--eval.temprature", "--eval.temperature"),
        ("--evl.temperature", "--eval.temperature"),
        ("--rollout.temperature", "--eval.temperature"),
        ("--max_completion_length", "--eval.max_completion_length"),
        ("--sampels", "--samples"),
    ],
)
def test_an_unknown_key_names_the_nearest(option: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(option, "1") == 2
    assert capsys.readouterr().err == f"unigrad: error: unknown option {option}; did you mean {meant}?\n"


def test_a_list_of_stops_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    for given, message in (("END", "'END': input should be a valid tuple"), ('["a", ""]', "'': must not be empty")):
        assert evaluate("--rollout.stop", given) == 2
        assert capsys.readouterr().err == f"unigrad: error: --rollout.stop {message}\n"


def test_help_lists_each_key_with_both_spellings_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--help"])
    assert stop.value.code == 0
    text, known, defaults = " ".join(capsys.readouterr().out.split()), dict(config_keys()), Config().flat()
    for name, key in Protocol.keys().items():
        assert f"--{key} " in text
        assert f", --{name.replace('_', '-')} " in text
        meaning = " ".join((known[key].description or "").split())
        if key in OPEN:
            assert f"{meaning} (default: " in text
        else:
            default = "null" if defaults[key] is None else defaults[key]
            assert f"{meaning} (default: {default})" in text
    assert "those of the run that MODEL lies in; else none" in text


def test_both_spellings_are_one_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = protocol(
        "--eval.temperature", "0", "--eval.num_generations", "2", "--eval.seed", "3", "--model.dtype", "float32",
        "--data.prompt_template", "boxed", "--rollout.stop", '["[x", "null"]', "--verify.no_box", "wrong",
    )  # fmt: skip
    assert said["max_completion_length"] == 12
    assert (said["temperature"], said["samples"], said["seed"], said["limit"]) == (0, 2, 3, 2)
    assert (said["stop"], said["no_box"], said["prompt_template"]) == (["[x", "null"], "wrong", "boxed")
    # The same folder goes on under the other spellings, of which the last counts.
    short = ("--temperature", "1", "--temperature", "0", "--samples", "2", "--seed", "3", "--dtype", "float32")
    rest = ("--prompt-template", "boxed", "--stop", "[x", "--stop", "null", "--no-box", "wrong", "--limit", "2")
    assert protocol(*short, *rest) == said
    # A whole list replaces what was given before; a null is the default.
    again = ("--stop", "z", "--rollout.stop", '["[x"]', "--stop", "null", "--model.max_position_embeddings", "null")
    assert protocol(*short, *rest, *again) == said
