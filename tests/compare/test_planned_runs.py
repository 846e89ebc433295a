"""Which runs a comparison asks for, and what it refuses before one is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unigrad.cli import main
from unigrad.compare.plan import plan
from unigrad.compare.runs import check_free, train
from unigrad.compare.sets import SETS, named_methods
from unigrad.config import load_config
from unigrad.errors import ConfigError
from unigrad.hybrid import METHODS


def test_sets_are_spelled_out_and_each_method_comes_once_in_order() -> None:
    assert named_methods("sft, hpt", METHODS) == ("sft", "hpt")
    known = {name: None for methods in SETS.values() for name in methods}
    assert named_methods("table6,controls,hpt", known) == (*SETS["table6"], *SETS["controls"][1:])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("hpt,grop", "--methods: unknown method 'grop'; did you mean 'grpo'?"),
        ("contrlos", "--methods: unknown method 'contrlos'; did you mean 'controls'?"),
        (" ,", "--methods ' ,' names no method; there are: hpt, sft, grpo"),
    ],
)
def test_an_unknown_method_names_the_nearest(methods: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        named_methods(methods, ("hpt", "sft", "grpo"))
    assert str(error.value) == message


def test_each_run_has_its_methods_configuration_and_its_seed(tmp_path: Path) -> None:
    comparison = plan("tiny", ("hpt", "grpo"), range(100, 102), tmp_path, {"train.max_steps": "7"})
    assert [(run.method, run.seed) for run in comparison.runs] == [
        ("hpt", 100), ("grpo", 100), ("hpt", 101), ("grpo", 101),
    ]  # fmt: skip
    for run in comparison.runs:
        config = run.config
        assert (config.method.name, config.train.seed, config.tiny.seed) == (run.method, run.seed, run.seed)
        assert config.output_dir == str(run.folder) == str(tmp_path / run.method / f"seed-{run.seed}")
        assert config.train.max_steps == 7
    hpt, grpo = comparison.runs[:2]
    assert (hpt.config.algorithm.name, grpo.config.algorithm.name) == ("dr_grpo", "grpo")
    assert comparison.command("--out", "there") == (
        "unigrad compare tiny --methods hpt,grpo --seeds 2 --first-seed 100 --out there --train.max_steps 7"
    )


def test_the_problems_seed_may_be_held_and_is_left_alone_on_other_data(tmp_path: Path) -> None:
    (run,) = plan("tiny", ("hpt",), range(1, 2), tmp_path, {"tiny.seed": "5"}).runs
    assert (run.config.train.seed, run.config.tiny.seed) == (1, 5)
    (run,) = plan("tiny", ("hpt",), range(1, 2), tmp_path, {"data.train": "a.jsonl", "data.eval": "b.jsonl"}).runs
    assert (run.config.train.seed, run.config.tiny.seed) == (1, 0)
    with pytest.raises(ConfigError, match=r"^data\.eval = null: a comparison is of accuracies on held-out problems"):
        plan("tiny", ("hpt",), range(1, 2), tmp_path, {"data.train": "a.jsonl"})


def test_a_recipe_without_methods_works_as_well(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {max_steps: 3}\n", encoding="utf-8")
    runs = plan(str(recipe), ("hpt", "sft"), range(1), tmp_path / "out").runs
    assert [(run.config.method.name, run.config.train.max_steps) for run in runs] == [("hpt", 3), ("sft", 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "--methods", "hpt,grop"], "--methods: unknown method 'grop'; did you mean 'grpo'?"),
        (["tinny"], "unknown recipe 'tinny'; did you mean 'tiny'?"),
        (["tiny", "--seeds", "0"], "--seeds 0: must be at least 1"),
        (["tiny", "--seeds", "x"], "argument --seeds: invalid int value: 'x'"),
        (["tiny", "--jobs", "0"], "--jobs 0: must be at least 1"),
        (["tiny", "--first-seed", "-1"], "--first-seed -1: must be at least 0"),
        (["tiny", "--methds", "hpt"], "unknown key --methds; did you mean --methods?"),
        (["tiny", "--train.max_stepz", "3"], "unknown key --train.max_stepz; did you mean --train.max_steps?"),
        (["tiny", "--train.max_steps", "0"], "train.max_steps = 0: input should be greater than or equal to 1"),
        (["tiny", "--train.seed", "3"], "it is given by --seeds and --first-seed"),
        (["tiny", "--method.name", "hpt"], "it is given by --methods"),
        (["tiny", "--output_dir", "x"], "it is given by --out"),
        (["tiny", "--data.eval", "null"], "data.eval = null: a comparison is of accuracies on held-out problems"),
        (["tiny", "--train.eval_steps", "0"], "train.eval_steps = 0: a comparison is of accuracies"),
        (["tiny", "--methods", "grpo", "--algorithm.name", "gropo"], "grpo: unknown algorithm 'gropo'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2_and_nothing_is_started(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("unigrad: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_configurations_run_stands_in_the_way(tmp_path: Path) -> None:
    (run,) = plan("tiny", ("hpt",), range(1), tmp_path).runs
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(run.config.dump(), encoding="utf-8")
    plan("tiny", ("hpt",), range(1), tmp_path)
    with pytest.raises(ConfigError) as error:
        plan("tiny", ("hpt",), range(1), tmp_path, {"train.learning_rate": "1e-3"})
    assert str(error.value) == (
        f"{run.folder} holds a run whose train.learning_rate was 0.0005 and is now 0.001; "
        "give another folder with --out"
    )


def test_a_run_that_still_trains_is_not_trained_twice(tmp_path: Path) -> None:
    (run,) = plan("tiny", ("hpt",), range(1), tmp_path).runs
    check_free([run])
    run.log.parent.mkdir(parents=True)
    code = "import fcntl, sys; fcntl.flock(1, fcntl.LOCK_EX); print('locked', file=sys.stderr, flush=True); input()"
    with run.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log, stderr=subprocess.PIPE
        )
    with child:
        assert child.stderr is not None
        child.stderr.readline()
        with pytest.raises(ConfigError, match=r"seed-0 is being trained by another process; wait for its end"):
            check_free([run])
    check_free([run])


def test_a_run_that_fails_is_told_with_its_last_line_and_the_others_go_on(tmp_path: Path) -> None:
    runs = plan("tiny", ("sft",), range(2), tmp_path).runs
    (runs[1].folder / "final").mkdir(parents=True)
    runs[0].folder.mkdir()
    (runs[0].folder / "config.yaml").write_text("train: {max_stepz: 3}", encoding="utf-8")
    told: list[str] = []
    outcome = train(runs, 2, 1, (), told.append)
    assert outcome.failed == (runs[0],)
    assert outcome.stopped_by is None
    assert told[0] == "1 of 2 runs are there already"
    assert told[-1].startswith("sft seed 0: failed with exit code 2: unigrad: error: ")
    assert "unknown key 'train.max_stepz'" in told[-1]
    assert told[-1].endswith(f"({runs[0].log})")


def test_help_tells_the_sets_without_torch() -> None:
    code = (
        "import sys\nfrom unigrad.cli import main\n"
        "try:\n    main(['compare', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(3 if {'torch', 'matplotlib', 'scipy'} & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    for name, methods in SETS.items():
        assert f"{name:<12}{', '.join(methods)}" in done.stdout
    for option in ("--methods", "--seeds", "--first-seed", "--out", "--jobs", "--train.max_tokens"):
        assert option in done.stdout


def test_folders_of_a_comparison(tmp_path: Path) -> None:
    seed = tmp_path / "sft" / "seed-0"

    def refused() -> str:
        with pytest.raises(ConfigError) as error:
            plan("tiny", ["sft"], range(1), tmp_path)
        return str(error.value)

    seed.parent.touch()
    assert "lies below" in refused()
    seed.parent.unlink()
    (seed / "final").mkdir(parents=True)
    assert "holds a trained model and no config.yaml" in refused()
    config = load_config("tiny", {"method.name": "sft", "train.seed": "0", "tiny.seed": "0", "output_dir": str(seed)})
    (seed / "config.yaml").write_text(config.dump(), encoding="utf-8")
    (seed / "metrics.jsonl").touch()
    assert "metrics.jsonl holds no accuracy, and the run is finished" in refused()
    (seed / "metrics.jsonl").write_text('{"step": 1, "eval/tiny/accuracy": 0.5}\n', encoding="utf-8")
    assert plan("tiny", ["sft"], range(1), tmp_path).runs[0].folder == seed
