"""What a user looks for first: the reward, the names of the runs, the data, the questions."""

from __future__ import annotations

from pathlib import Path

from written_runs import WriteRun, metrics, write_config, write_metrics

from unigrad.cli import main
from unigrad.report.contents import assemble
from unigrad.report.figures import training_reward
from unigrad.report.runs import find_runs, gather
from unigrad.report.sample import sample
from unigrad.runs.folder import Example, read_examples, rollouts_files, write_examples

OUTCOMES = {"a": [(0, 1)], "b": [(1, 1)]}


def test_reward_and_accuracy_come_first(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("run", OUTCOMES, {})
    contents = assemble(gather(find_runs([run])), [], 10**6)
    assert [each.name for each in contents.figures[:2]] == ["reward", "fig5"]
    assert contents.figures[0].number == ""
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<strong>Training reward over the steps.</strong>" in page
    assert page.index('id="reward"') < page.index('id="fig5"') < page.index('id="fig6"')


def test_each_reward_of_a_sum_has_a_panel(tmp_path: Path) -> None:
    write_config(tmp_path / "run")
    parts = {"reward/verify/mean": 0.25, "reward/my.short/mean": 0.75}
    write_metrics(tmp_path / "run", [metrics(0), {**metrics(1), **parts}, {**metrics(2), **parts}])
    drawn = training_reward(gather(find_runs([tmp_path / "run"])))
    assert drawn is not None
    titles = [axes.get_title(loc="left") for axes in drawn.figure.axes]
    assert titles == ["mean reward of the rollouts", "of verify, before its weight", "of my.short, before its weight"]


def test_long_settings_become_numbers(tmp_path: Path) -> None:
    for number, rate in enumerate((1e-5, 2e-5, 2e-5)):
        keys = {"train__learning_rate": rate, "train__warmup_steps": number, "rollout__top_k": 5 * number}
        write_config(tmp_path / f"run-{number}", method__name="hpt", **keys)
    series = gather(find_runs([tmp_path / f"run-{number}" for number in range(3)]))
    assert [each.label for each in series] == ["hpt 1", "hpt 2", "hpt 3"]
    assert series[1].settings == "top_k 5, learning_rate 2e-05, warmup_steps 1"
    overview = assemble(series, [], 10**6).runs
    assert overview.hints == tuple(each.settings for each in series)
    assert "hpt 2: top_k 5, learning_rate 2e-05, warmup_steps 1" in overview.note


def test_what_the_columns_became(write_run: WriteRun, tmp_path: Path) -> None:
    shown = Example("train", "problem ← `question`", "<|user|>1<2?<|end|>", None, "7")
    runs = [write_run(name, OUTCOMES, {}, train__seed=seed) for seed, name in enumerate(("a", "b"))]
    for run in runs:
        write_examples(run, [shown])
        assert read_examples(run) == (shown,)
    contents = assemble(gather(find_runs(runs)), [], 10**6)
    assert list(contents.examples.values()) == [(shown,)]  # once
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "train: problem ← `question`</summary>" in page
    assert "&lt;|user|&gt;1&lt;2?&lt;|end|&gt;" in page
    assert "demonstration</p>" not in page
    (runs[0] / "examples.json").write_text('{"examples": [{"set": 3}]}')
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "page.html")]) == 2


def test_a_question_is_listed_as_it_is(write_run: WriteRun) -> None:
    run = write_run("run", OUTCOMES, {})
    (step,) = sample(rollouts_files(run), 10**6).steps
    assert step.questions == 2
    lines = (run / "rollouts" / "000001.jsonl").read_text(encoding="utf-8")
    # Older files have no question of its own.
    (run / "rollouts" / "000001.jsonl").write_text(lines.replace('"problem": "What is a?", ', ""), encoding="utf-8")
    (again,) = sample(rollouts_files(run), 10**6).steps
    assert again.questions == 2
    assert len(again.payload) != len(step.payload)
