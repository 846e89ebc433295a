"""A training set cut by pass rates, and the file of `unigrad evaluate --passes` that holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.data import load_problems, of_pass_rates
from unigrad.data.given import write_rows
from unigrad.data.tiny import tiny_problems
from unigrad.errors import ConfigError
from unigrad.train.problem_sets import training_problems
from unigrad.types import Problem


def rated(**columns: Any) -> list[Problem]:
    """Problems a, b, …, of which `columns` holds a value each, by the column's name."""
    names = "abcdefg"
    count = max(map(len, columns.values()))
    return [
        Problem(id=names[i], problem="p", answer="1", columns={key: values[i] for key, values in columns.items()})
        for i in range(count)
    ]


def ids(problems: list[Problem], least: float | None, most: float | None, column: str | None = None) -> str:
    return "".join(each.id for each in of_pass_rates(problems, least, most, column, "here"))


def test_both_ends_are_kept_and_what_has_no_rate_is_not() -> None:
    problems = rated(pass_rate=[0, 0.125, 0.5, None, 1.0, float("nan"), 0.875])
    assert ids(problems, 0.125, 0.875) == "bcg"
    assert ids(problems, None, 0.125) == "ab"
    assert ids(problems, 1, None) == "e"
    assert ids(problems, 0, 1) == "abceg"
    assert ids(problems, None, None) == "abcdefg"


def test_the_column_is_the_one_that_is_named_or_the_first_that_is_known() -> None:
    problems = rated(
        mine=[0.1, 0.9], llama8b_solve_rate=[0.9, 0.1], extra_info=[{"pass_rate": 0.2}, {"pass_rate": 0.3}]
    )
    assert (ids(problems, 0.5, None), ids(problems, 0.5, None, "mine")) == ("a", "b")
    assert ids(problems, 0.25, None, "extra_info.pass_rate") == "b"
    assert ids(rated(extra_info=[{"pass_rate": 0.2}, {}]), None, 0.5) == "a"


@pytest.mark.parametrize(
    ("problems", "column", "line"),
    [
        (rated(other=[1]), None, "no problem of here has a 'pass_rate'; `unigrad evaluate MODEL"),
        (rated(pass_rate=[0.5]), "rate", "no problem of here has a 'rate'"),
        (rated(pass_rate=[0.5, 37.5]), None, "problem b, column 'pass_rate': 37.5 is no share between 0 and 1"),
        (rated(pass_rate=["0.5"]), None, "problem a, column 'pass_rate': '0.5' is no share"),
        (rated(pass_rate=[True]), None, "True is no share"),
        (rated(pass_rate=[0.0, 0.1, 1.0]), None, "they leave no problem of here, whose pass rates are 0 to 1"),
    ],
)
def test_what_cannot_be_chosen_from_is_one_line(problems: list[Problem], column: str | None, line: str) -> None:
    with pytest.raises(ValueError, match="pass_rate") as error:
        of_pass_rates(problems, 0.2, 0.8, column, "here")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"data.min_pass_rate": "0.6", "data.max_pass_rate": "0.5"}, r"min_pass_rate \(0\.6\) is above max_pass_rate"),
        ({"data.max_pass_rate": "50"}, r"data\.max_pass_rate"),
        ({"data.pass_rate_column": "mine"}, "pass_rate_column is of min_pass_rate and max_pass_rate"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load_config("tiny", keys)


LAYOUTS: dict[str, list[dict[str, Any]]] = {
    "text": [{"problem": "1+1?", "answer": "2", "solution": "so 2", "level": "Level 3", "note": "x"}],
    "gsm8k": [{"question": "1+1?", "answer": "One and one.\n#### 2"}],
    "chat": [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2, \\boxed{2}"},
            ]
        }
    ],
    "verl": [
        {
            "prompt": [{"role": "user", "content": "1+1?"}],
            "reward_model": {"ground_truth": "2", "style": "rule"},
            "data_source": "sums",
            "extra_info": {"index": 7},
        }
    ],
    "options": [{"question": "Which is two?", "choices": ["1", "2", "3"], "answer": 1}],
    "right and wrong": [
        {
            "question": "Which is two?", "correct_answer": "2",
            "distractor1": "1", "distractor2": "3", "distractor3": "4",
        }
    ],
    "instruction": [{"instruction": "Add.", "input": "1 and 1", "output": "It is \\boxed{2}"}],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_problems_that_are_written_again_are_the_same(tmp_path: Path, layout: str) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("".join(json.dumps(row) + "\n" for row in LAYOUTS[layout]))
    problems = load_problems(str(first))
    write_rows(problems, second, "rows")
    for ours, theirs in zip(problems, load_problems(str(second)), strict=True):
        for name in ("id", "problem", "answer", "solution", "source", "level", "kind", "messages"):
            assert getattr(ours, name) == getattr(theirs, name), name
        kept = {key: value for key, value in ours.columns.items() if key not in ("id", "problem", "level", "source")}
        assert kept.items() <= theirs.columns.items()


def test_an_evaluation_writes_what_a_run_chooses_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    problems = tiny_problems("train", 20, 5)
    write_rows(problems, Path("own.jsonl"), "own")
    command = [
        "evaluate",
        "tiny",
        "--suite",
        "own.jsonl",
        "--samples",
        "4",
        "--prompt-template",
        "plain",
        "--out",
        "out",
    ]
    for refused in ("own.jsonl", "own.parquet"):
        assert main([*command, "--passes", refused]) == 2
        assert f"--passes {refused}" in capsys.readouterr().err
    assert main([*command, "--passes", "new/rated.jsonl"]) == 0
    counts = json.loads(Path("out/results.json").read_text())["benchmarks"]["own"]["counts"]
    found = load_problems("new/rated.jsonl")
    assert [each.columns["pass_rate"] for each in found] == [counts[each.id]["c"] / 4 for each in problems]
    assert [(each.id, each.problem, each.solution) for each in found] == [
        (each.id, each.problem, each.solution) for each in problems
    ]
    # Of a finished evaluation it is written without the model; two sets are told apart by their names.
    Path("other.jsonl").write_text(Path("own.jsonl").read_text())
    assert main([*command[:3], "own.jsonl,other.jsonl", *command[4:-1], "both", "--passes", "both.jsonl"]) == 0
    assert [each.id for each in load_problems("both.jsonl")] == [
        f"{name}:{each.id}" for name in ("own", "other") for each in problems
    ]
    chosen = [each.id for each in found if 0 < each.columns["pass_rate"] < 1]
    assert 0 < len(chosen) < 20
    keys = {"data.train": "new/rated.jsonl", "data.min_pass_rate": "0.1", "data.max_pass_rate": "0.9"}
    said: list[str] = []
    config = load_config("tiny-hpt", keys)
    (source,) = config.data.train_sets
    assert [each.id for each in training_problems(source, config, said.append)] == chosen
    assert said == [f"train: {len(chosen)} of 20 problems have a pass rate of at least 0.1 and at most 0.9"]
    # Each cut is made before the first so many are taken.
    config = load_config("tiny-hpt", {**keys, "data.max_train_problems": "2"})
    assert [each.id for each in training_problems(source, config)] == chosen[:2]
