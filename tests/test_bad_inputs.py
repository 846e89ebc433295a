"""Bad input of every kind is one line with exit code 1 or 2: arguments, recipes, folders of runs and of evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from unigrad.cli import main
from unigrad.config import Config, load_config, read_yaml
from unigrad.data import load_problems
from unigrad.data.problems import LONGEST_TEXT
from unigrad.errors import ConfigError
from unigrad.evaluate.completions import Sample, append, read
from unigrad.evaluate.folder import read_settings
from unigrad.evaluate.schemas import SHOWN
from unigrad.files import check_folder, checked, json_lines
from unigrad.plugins import import_module
from unigrad.runs.folder import rollouts_files
from unigrad.runs.metrics import read_metrics
from unigrad.runs.rollouts import questions
from unigrad.train.claim import fresh, resume_point
from unigrad.types import Reason


def line_of(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("unigrad: error: ")
    assert error.count("\n") == 1
    assert len(error) < 2200
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", ""], "recipe: must not be empty"),
        (["train", "--resume", ""], "--resume: must not be empty"),
        (["train", "--output_dir", ""], "output_dir = '': must not be empty"),
        (["report", ""], "RUN: must not be empty"),
        (["train", "--output_dir", "a\0b"], "holds a NUL"),
        (["train", "--data.prompt_template", "{problem}\udce9"], "not UTF-8"),
        (["train", f"--{'k' * 30_000}", "1"], "has 30,002 characters"),
        (["train", "--data.train=~no-such-user-here/a.jsonl"], "no such user's home"),
        (["train", "--train.questions_per_step", "2000000000"], "less than or equal to 1000000"),
        (["train", "--train.questions_per_step", "9000", "--rollout.num_generations", "900"], "8,100,000 completions"),
        (["train", "--train.seed", "1" * 30], "less than or equal to"),
        (["train", "--train.max_steps", "true"], "must not be true or false"),
        (["compare", "--seeds", "5000000000"], "--seeds 5000000000: must be at most 1000"),
        (["evaluate", "tiny", "--suite", "tiny", "--samples", "7000000000"], "above 0 and at most 1000000"),
        (["evaluate", "tiny", "--suite", "."], "--suite . is a folder"),
        (["report", "x", "--max-megabytes", "inf"], "must be above 0, and a number"),
        (["train", "--output_dir", "long" * 80], "is too long a name"),
        (["compare", "--out", "long" * 80], "is too long a name"),
        (["evaluate", "tiny", "--suite", "tiny", "--out", "long" * 80], "is too long a name"),
    ],
)  # fmt: skip
def test_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in line_of(arguments, capsys)


BOMB = "a: &a [1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 8)}]" for name, before in zip("bcdefg", "abcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: {top_k: 1}\nrollout: {top_k: 2}", "line 2: not YAML: the key 'rollout' stands there twice"),
        ("eval: {seed: 1, seed: 2}", "the key 'seed' stands there twice"),
        ("tiny: &t {seed: *t}", "the anchor 't' holds itself"),
        ("tiny: &t {<<: *t}", "the anchor 't' holds itself"),
        ("tiny: !!set {seed}", "the tag '!!set' has no place here"),
        ("tiny: {seed: " + "7" * 6000 + "}", "digits"),
        ("tiny: " + "{a: " * 60, "nested more than 32 deep"),
        ("3: {seed: 1}", "a key must be a text, not 3"),
        ('output_dir: "a\\0b"', "a text holds a NUL"),
        ("# " + "x" * 300_000, "characters are too many"),
        (BOMB, "its aliases make more than 20,000 values of it"),
        ("a: [" + "1," * 30_000 + "]", "more than 20,000 values"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^r") as error:
        read_yaml(text, "r")
    assert message in str(error.value)


def test_yaml_that_is_one() -> None:
    text = "base: &b {x: 1}\nown:\n  <<: *b\n  x: 2\nday: 2024-05-06\n"
    assert read_yaml(text, "r") == {"base": {"x": 1}, "own": {"x": 2}, "day": "2024-05-06"}
    assert read_yaml(Config().dump(), "r") == Config().model_dump(mode="json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: 4", "rollout = 4: input should be a valid dictionary"),
        ("method:", "method = None: input should be"),
        ("methods: {grpo: {eval: {sed: 3}}}", "methods.grpo: unknown key 'eval.sed'; did you mean 'eval.seed'?"),
        ("methods: {grpo: {eval: 3}}", "eval = 3: input should be"),
        ("train: {max_steps: false}", "train.max_steps = False: must not be true or false"),
        ("method: {table: [[1, true]]}", "must not be true or false"),
        ("base: [tiny]", "base = ['tiny']: must be the name of a recipe, or a path"),
        ("base: sub/../own.yaml", "its base leads back to itself"),
    ],
)
def test_recipes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "own.yaml"))
    assert message in str(error.value)


def test_a_recipe_of_a_method_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text("methods: {gropo: {}}", encoding="utf-8")
    assert "methods.gropo: unknown method; did you mean 'grpo'?" in line_of(
        ["train", str(tmp_path / "own.yaml"), "--output_dir", str(tmp_path / "o")], capsys
    )


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"lies below .*file, a file, not a folder"):
        check_folder(tmp_path / "file" / "a" / "b", "--out")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        check_folder(tmp_path / "file", "--out")
    with pytest.raises(ConfigError, match="too long a name"):
        check_folder(tmp_path / ("é" * 200), "--out")
    check_folder(tmp_path / "a" / "b", "--out")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["rollouts", "tensorboard", "final"])
@pytest.mark.parametrize("there", [Path.touch, lambda path: path.symlink_to(path)])
def test_something_else_where_a_folder_of_the_run_is_to_be(
    name: str, there: Callable[[Path], object], tmp_path: Path
) -> None:
    there(tmp_path / name)
    with pytest.raises(ConfigError, match=f"^output_dir .*{name} is a file, where a folder of the run is to be"):
        fresh(Config(), tmp_path)
    with pytest.raises(ConfigError, match=f"^--resume .*{name} is a file, where a folder of the run is to be"):
        resume_point(Config(), tmp_path)


@pytest.mark.parametrize("field", ["id", "problem", "answer", "solution"])
@pytest.mark.parametrize(
    ("text", "message"), [("7" * (LONGEST_TEXT + 1), "has 1,000,001 characters; at most"), ("7\udfff", "half a char")]
)
def test_texts_that_no_model_reads(field: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    row = {"problem": "What is 3 + 4?", "answer": "7", "solution": "It is 7."}
    path.write_text(f"{json.dumps(row)}\n{json.dumps({**row, field: text})}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"set\.jsonl, line 2: .*{field}") as error:
        load_problems(str(path))
    assert message in str(error.value)


METRICS: dict[str, Any] = {"step": 1, "policy/entropy": 0.5, "loss": None}
DAMAGED_LINES = [b"7\n", b"null\n", b"[" * 50_000 + b"\n", b"\xff\xfe\n", b'{"step": 1\n{"step": 2}\n', b"text"]


@pytest.mark.parametrize(
    "line",
    [
        *DAMAGED_LINES,
        *(json.dumps({**METRICS, **change}).encode() + b"\n" for change in (
            {"step": "1"}, {"step": None}, {"step": 1.5}, {"step": -1}, {"loss": "x"}, {"loss": [1]}, {"loss": True},
            {"loss": float("nan")}, {"policy/entropy": 1e300}, {"loss": 10**400}, {"gate/offline_ratio": 1.5},
            {"eval/tiny/accuracy": -0.1},
        )),
        b'{"loss": 1}\n',
    ],
)  # fmt: skip
def test_metrics(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(METRICS).encode() + b"\n" + line)
    with pytest.raises(ConfigError, match=r"^\S+metrics\.jsonl, line 2"):
        list(read_metrics(path))


def test_a_last_line_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = json.dumps({"step": 1, "é": 2}, ensure_ascii=False).encode()
    for end in range(1, len(whole)):
        path.write_bytes(whole + b"\n" + whole[:end])
        assert len(list(json_lines(path))) == 1


def test_a_folder_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "rollouts").touch()
    with pytest.raises(ConfigError, match=r"^cannot read .*rollouts: Not a directory"):
        rollouts_files(tmp_path)
    for read_lines in (json_lines, read):
        with pytest.raises(ConfigError, match=r"^cannot read .*: Is a directory"):
            list(read_lines(tmp_path))


ROLLOUT: dict[str, Any] = {
    "id": "a", "level": 3, "sample": 0, "prompt": "p", "completion": "c", "answer": "1", "verdict": "right",
    "extracted": "1", "reward": 1.0, "truncated": False, "tokens": 2, "trained": True, "pieces": ["c", ""],
    "logprobs": [-0.5, 0.0], "gate": {"alpha": 1.0, "beta": 0.0, "solved": 1, "fell_back": False},
}  # fmt: skip


@pytest.mark.parametrize("key", [*ROLLOUT])
@pytest.mark.parametrize("value", [{"a": 1}, float("nan"), [float("inf")], 10**400])
def test_rollouts(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "000001.jsonl"
    path.write_text(json.dumps(ROLLOUT) + "\n", encoding="utf-8")
    assert [each.id for each in questions(path)] == ["a"]
    path.write_text(json.dumps({**ROLLOUT, key: value}) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"line 1 is damaged: {key}|line 1: a rollout without gate\.alpha"):
        list(questions(path))


SAMPLE = Sample("a", 0, "c", 2, False, Reason.RIGHT, "1", True)


@pytest.mark.parametrize("change", [{"id": [1]}, {"index": None}, {"correct": "x"}, {"tokens": -1}, {"reason": "fine"}])
def test_completions(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    append(path, [SAMPLE])
    path.write_bytes(path.read_bytes() + json.dumps({**json.loads(SAMPLE.line()), **change}).encode() + b"\n")
    with pytest.raises(ConfigError, match=f"line 2 is damaged: {next(iter(change))}"):
        list(read(path))


ACCURACY = {"accuracy": 0.5, "interval": [0.4, 0.6]}
SETTINGS: dict[str, Any] = {
    "model": "tiny", "model_fingerprint": None, "suite": ["s"],
    "protocol": {"max_completion_length": 8, "temperature": 0.6, "top_p": 1.0, "seed": 0},
    "benchmarks": {"s": {"source": "here", "problems": "1", "answers": "2"}},
    "sampled_with": {"threads": 1, "positions": None, "device": "cpu", "dtype": "float32", "prompt_templates": {},
                     "versions": {}},
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "label": "m", "suites": [{"name": "paper", "benchmarks": ["s"]}], "averages": {"paper": ACCURACY},
    "settings": SETTINGS,
    "benchmarks": {"s": {"title": "S", **ACCURACY, "samples": 1, "problems": 1, "by_level": {}, "truncated": 0.0,
                         "reasons": {"right": 1}, "counts": {"p": {"n": 1, "c": 1, "level": None}}}},
}  # fmt: skip


def test_settings_of_an_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(SETTINGS), encoding="utf-8")
    assert read_settings(tmp_path) == SETTINGS
    (tmp_path / "completions").touch()
    with pytest.raises(ConfigError, match="completions is a file, where the folder of the completions is to be"):
        read_settings(tmp_path)
    (tmp_path / "completions").unlink()
    damaged: list[Any] = [{}, [], None, 5, *({**SETTINGS, key: "x"} for key in SETTINGS if key != "model")]
    damaged += [{key: SETTINGS[key] for key in SETTINGS if key != lacking} for lacking in SETTINGS]
    damaged += [{**SETTINGS, "sampled_with": {**SETTINGS["sampled_with"], "threads": n}} for n in (0, "2", True)]
    damaged += [{**SETTINGS, "benchmarks": {}}]
    for data in damaged:
        if data == {**SETTINGS, "model_fingerprint": "x"}:
            continue
        file.write_text(json.dumps(data), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"settings\.json(: an object without| is damaged)"):
            read_settings(tmp_path)


def _without(*keys: str) -> dict[str, Any]:
    return _changed(lambda part: part.pop(keys[-1]), *keys)


def _changed(change: Callable[[Any], object], *keys: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(RESULTS))
    part = data
    for key in keys[:-1]:
        part = part[key]
    change(part)
    return data


@pytest.mark.parametrize(
    "data",
    [
        {}, [], None, 3,
        *(_without(key) for key in RESULTS),
        *(_without("benchmarks", "s", key) for key in RESULTS["benchmarks"]["s"]),
        _without("averages", "paper"), _without("benchmarks", "s"),
        _changed(lambda part: part.update(interval=[1]), "benchmarks", "s", "interval"),
        _changed(lambda part: part.update(accuracy="x"), "averages", "paper", "accuracy"),
        _changed(lambda part: part.update(c=2), "benchmarks", "s", "counts", "p", "c"),
    ],
)  # fmt: skip
def test_results_of_an_evaluation(data: object) -> None:
    checked(RESULTS, SHOWN, "results.json")
    with pytest.raises(ConfigError, match=r"^results\.json[: ]"):
        checked(data, SHOWN, "results.json")


def test_what_nothing_expected_is_a_line_and_a_traceback_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    line = line_of(["report", "run"], capsys, code=1)
    file = Path(line.rpartition("traceback: ")[2].strip(")\n"))
    assert "No such file or directory" in line
    assert "Traceback (most recent call last)" in file.read_text(encoding="utf-8")


def test_a_name_that_no_file_can_have_is_a_line_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "File name too long" in line_of(["report", str(tmp_path / ("n" * 300))], capsys, code=1)
    assert not [*tmp_path.iterdir()]


def test_a_path_is_no_module() -> None:
    with pytest.raises(ValueError, match=r"plugins: '\./mine' is not a module's name"):
        import_module("./mine", "plugins")


def test_the_first_fault_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^here is damaged: 1 = 'x': input should be a valid integer"):
        checked([1, "x"], TypeAdapter(list[int]), "here")
