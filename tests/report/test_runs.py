"""Which runs are found, and how they become lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_runs import metrics, write_config, write_metrics

from unigrad.errors import ConfigError
from unigrad.hybrid import METHODS
from unigrad.report.runs import find_runs, gate_threshold, gather


def test_seeds_are_one_series_and_other_changes_are_named(tmp_path: Path) -> None:
    for name, keys in {
        "a": {"train__seed": 0, "tiny__seed": 0},
        "b": {"train__seed": 1, "tiny__seed": 1, "train__save_steps": 7, "train__save_token_logprobs": "false"},
        "c": {"train__learning_rate": 0.5},
    }.items():
        write_config(tmp_path / name, method__name="hpt", **keys)
    write_config(tmp_path / "d", method__name="sft")
    series = gather(find_runs([tmp_path / name for name in "abcd"]))
    rate = find_runs([tmp_path / "a"])[0].keys["train.learning_rate"]
    assert [(each.label, sorted(each.runs)) for each in series] == [
        (f"hpt, learning_rate {rate}", [0, 1]), ("hpt, learning_rate 0.5", [0]), ("sft", [0]),
    ]  # fmt: skip
    assert series[0].name(series[0].first) == f"hpt, learning_rate {rate}, seed 0"


def test_the_same_run_again_and_a_second_one_of_its_seed(tmp_path: Path) -> None:
    write_config(tmp_path / "a", method__name="hpt")
    write_config(tmp_path / "b", method__name="hpt")
    series = gather(find_runs([tmp_path / "a", tmp_path / "a", tmp_path / "b"]))
    assert [each.label for each in series] == ["hpt", f"hpt ({tmp_path / 'b'})"]


def test_a_comparisons_folder_stands_for_its_runs_in_its_order(tmp_path: Path) -> None:
    for method in ("grpo", "hpt", "sft"):
        for seed in (0, 2, 10):
            write_config(tmp_path / method / f"seed-{seed}", method__name=method, train__seed=seed)
    (tmp_path / "comparison.json").write_text('{"methods": ["sft", "hpt"]}', encoding="utf-8")
    series = gather(find_runs([tmp_path]))
    assert [(each.label, list(each.runs)) for each in series] == [
        ("sft", [0, 2, 10]), ("hpt", [0, 2, 10]), ("grpo", [0, 2, 10]),
    ]  # fmt: skip


def test_a_run_from_before_a_key_has_todays_default(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("method: {name: hpt}\ntrain: {seed: 3}\n", encoding="utf-8")
    (run,) = find_runs([tmp_path])
    assert (run.method, run.seed, run.keys["train.save_token_logprobs"], run.steps) == ("hpt", 3, True, 0)


def test_an_unfinished_run_with_a_torn_line(tmp_path: Path) -> None:
    write_config(tmp_path, method__name="hpt")
    write_metrics(tmp_path, [metrics(0, accuracy=0.25), metrics(1), metrics(2)])
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "rew')
    (run,) = find_runs([tmp_path])
    assert (run.steps, run.is_finished, run.curve("reward/mean")) == (2, False, {1: 0.5, 2: 0.5})
    assert {step: scores.by_level for step, scores in run.evaluations.items()} == {0: {3: 0.25, 5: 0.125}}


@pytest.mark.parametrize(
    ("path", "message"),
    [("runs/hpz", "did you mean {}/runs/hpt?"), ("runs", "did you mean {}/runs/*, such as {}/runs/hpt?")],
)
def test_a_path_without_a_run_names_the_nearest(path: str, message: str, tmp_path: Path) -> None:
    write_config(tmp_path / "runs" / "hpt")
    write_config(tmp_path / "runs" / "sft-long-name")
    with pytest.raises(ConfigError) as error:
        find_runs([tmp_path / path])
    assert str(error.value).endswith(message.format(tmp_path, tmp_path))


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read"):
        find_runs([tmp_path])


def test_the_gates(tmp_path: Path) -> None:
    thresholds = {name: each.threshold for name, each in METHODS.items() if each.threshold is not None}
    assert thresholds == {"hpt": 0.0, "hpt_gate1": 1.0, "hpt_gate2": 2.0}
    write_config(tmp_path / "one", method__name="hpt_gate1")
    write_config(tmp_path / "three", method__name="hpt", method__threshold=3)
    write_config(tmp_path / "other", method__name="hpt", method__gate="drop")
    write_config(tmp_path / "grpo", method__name="grpo")
    runs = find_runs([tmp_path / name for name in ("one", "three", "other", "grpo")])
    assert [gate_threshold(run) for run in runs] == [1.0, 3.0, None, None]
