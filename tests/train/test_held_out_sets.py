"""Several held-out sets: how they are given, and that each is measured by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unigrad.cli import main
from unigrad.config import Config, HeldOutConfig, load_config
from unigrad.errors import ConfigError
from unigrad.plan.memory import cache_rows
from unigrad.runs.metrics import Accuracy, RunMetrics


def sets(given: str) -> list[tuple[str, str]]:
    return [(each.name, each.path) for each in load_config("tiny", {"data.eval": given}).data.held_out_sets]


def test_one_set_a_list_and_a_mapping() -> None:
    assert sets("some/sums.jsonl.gz") == [("sums", "some/sums.jsonl.gz")]
    assert sets("null") == []
    assert sets("[a/sums.jsonl, org/MATH-500]") == [("sums", "a/sums.jsonl"), ("MATH-500", "org/MATH-500")]
    assert sets("{easy: a/test.jsonl, hard: b/test.jsonl}") == [("easy", "a/test.jsonl"), ("hard", "b/test.jsonl")]
    config = load_config("tiny", {"data.eval": "{gsm: {path: openai/gsm8k, subset: main}}"})
    assert config.data.held_out_sets == (HeldOutConfig(name="gsm", path="openai/gsm8k", subset="main"),)


def test_a_saved_configuration_is_read_back_as_it_was(tmp_path: Path) -> None:
    config = load_config("tiny", {"data.eval": "{easy: a.jsonl, hard: {path: b, columns: {answer: gold}}}"})
    (tmp_path / "config.yaml").write_text(config.dump(), encoding="utf-8")
    assert load_config(str(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("[]", r"data.eval = \[\]: it names no problem set; null is no evaluation"),
        ("{}", r"data.eval = \{\}: it names no problem set; null is no evaluation"),
        ("[a/test.jsonl, b/test.jsonl]", "two sets are called 'test'; name them: {NAME: PATH, NAME: PATH}"),
        ("{a/b: c.jsonl}", r"data.eval.name = 'a/b'"),
        ("{a: {subset: main}}", r"data.eval.path"),
        ("{a: {path: b, splt: test}}", "unknown key 'data.eval.splt'"),
    ],
)
def test_what_is_wrong_with_the_sets_is_one_line(given: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as refused:
        load_config("tiny", {"data.eval": given})
    assert "\n" not in str(refused.value)


def test_the_plan_counts_the_largest_set() -> None:
    def rows(given: str | None) -> int:
        keys = {"data.eval": given or "tiny", "data.max_eval_problems": "3", "rollout.num_generations": "1"}
        return cache_rows(load_config("tiny", {**keys, "train.questions_per_step": "1"}), samples=True)[0]

    assert rows("[tiny, other.jsonl]") == rows("tiny") == 3


def write(path: Path, *answers: int) -> str:
    rows = [{"problem": f"Say {answer}.", "answer": str(answer), "level": answer} for answer in answers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def train(run: Path, evaluated: str, *options: str) -> RunMetrics:
    keys = {
        "output_dir": run, "data.eval": evaluated, "tiny.train_problems": 8, "rollout.max_completion_length": 16,
        "rollout.num_generations": 2, "train.max_steps": 2, "train.questions_per_step": 2, "train.save_steps": 0,
        "train.eval_steps": 1, "eval.num_generations": 4, "train.tensorboard": "false",
    }  # fmt: skip
    arguments = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    assert main(["train", "tiny-hpt", *arguments, *options]) == 0
    return RunMetrics(run)


def test_a_set_is_measured_as_if_it_were_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, more = write(tmp_path / "few.jsonl", 1, 2), write(tmp_path / "more.jsonl", 1, 2, 3)
    alone = train(tmp_path / "alone", few)
    capsys.readouterr()
    both = train(tmp_path / "both", f"{{small: {few}, large: {more}, sums: tiny}}", "--tiny.eval_problems", "4")
    printed = capsys.readouterr().out
    assert "held-out large: 3 problems" in printed
    assert "step 2: held-out accuracy" in printed
    assert list(both.evaluations_by_set) == [0, 1, 2]
    for step, found in both.evaluations_by_set.items():
        assert list(found) == ["small", "large", "sums"]
        assert found["small"] == alone.evaluations[step]
        mean = sum(each.accuracy for each in found.values()) / 3
        assert both.evaluations[step].accuracy == pytest.approx(mean)


def test_the_mean_of_a_level_is_over_the_sets_that_have_it(tmp_path: Path) -> None:
    line = {"step": 0, "eval/a/accuracy": 0.5, "eval/a/level_1": 0.25, "eval/b/accuracy": 0.1, "eval/b/level_1": 0.75}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({**line, "eval/b/level_2": 1.0}) + "\n", encoding="utf-8")
    assert RunMetrics(tmp_path).evaluations == {0: Accuracy(0.3, {1: 0.5, 2: 1.0})}


def test_the_default_is_one_set() -> None:
    assert Config().data.held_out_sets == (HeldOutConfig(name="tiny", path="tiny"),)
