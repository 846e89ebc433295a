"""Whole evaluations of the embedded model, as a user starts them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unigrad.cli import main
from unigrad.data.tiny import MODEL_PATH
from unigrad.evaluate import pass_at_k, recorder, sampler
from unigrad.evaluate.completions import Chunk
from unigrad.evaluate.evaluation import default_folder
from unigrad.evaluate.protocol import fingerprint
from unigrad.types import Scorer

SMALL = ("--limit", "10", "--samples", "2", "--max-completion-length", "60")
# Four rows at once, sixteen in a chunk.
CHUNKS = ("--limit", "24", "--samples", "2", "--max-completion-length", "60", "--max-concurrent-tokens", "320")


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert evaluate(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("unigrad: error: ").strip()


def completions(out: Path, name: str = "tiny") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "completions" / f"{name}.jsonl").read_text().splitlines()]


def results(out: Path, name: str = "tiny") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())["benchmarks"][name]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    assert evaluate("tiny", "--suite", "tiny", *SMALL, "--out", out) == 0
    return out


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the model must not be loaded")

    monkeypatch.setattr(sampler, "load_model", refuse)


def test_what_a_folder_holds(finished: Path) -> None:
    lines, found = completions(finished), results(finished)
    assert len({line["id"] for line in lines}) == 10
    assert {(line["id"], line["index"]) for line in lines} == {(line["id"], i) for line in lines for i in (0, 1)}
    assert len(lines) == 20
    for line in lines:
        assert line["tokens"] <= 60
        assert line["correct"] == (line["reason"] == "right")
        assert line["extracted"] is None or line["extracted"] in line["completion"]
    right = sum(line["correct"] for line in lines)
    assert found["accuracy"] == pytest.approx(right / 20)
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert found["truncated"] == sum(line["truncated"] for line in lines) / 20
    assert sum(found["reasons"].values()) == 20
    assert found["reasons"].get("right", 0) == right
    counts = found["counts"]
    assert {name: each["c"] for name, each in counts.items()} == {
        name: sum(line["correct"] for line in lines if line["id"] == name) for name in counts
    }
    for level, each in found["by_level"].items():
        own = [count["c"] / 2 for count in counts.values() if count["level"] == int(level)]
        assert (each["problems"], each["accuracy"]) == (2, pytest.approx(sum(own) / 2))
    for k, each in found["pass_at_k"].items():
        exact = [pass_at_k(2, count["c"], int(k)) for count in counts.values()]
        assert each["value"] == pytest.approx(sum(exact) / 10)
        lower, upper = each["bootstrap"]["interval"]
        assert lower <= each["bootstrap"]["value"] <= upper
    assert list(found["pass_at_k"]) == ["1", "2"]
    settings = json.loads((finished / "results.json").read_text())["settings"]
    assert settings == json.loads((finished / "settings.json").read_text())
    assert settings["protocol"]["top_p"] == 0.95
    assert settings["sampled_with"]["prompt_templates"] == {"tiny": "plain"}


@pytest.mark.usefixtures("no_model")
def test_a_second_run_samples_nothing_and_prints_the_same(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.json*")}
    printed = []
    for _ in range(2):
        assert evaluate("tiny", "--suite", "tiny", *SMALL, "--out", finished) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "95% interval" in printed[0]
    assert "level 5" in printed[0]
    assert "pass@k" in printed[0]
    assert {path: path.read_bytes() for path in finished.rglob("*.json*")} == before
    # Without its results, they are counted again from the completions.
    (finished / "results.json").unlink()
    assert evaluate("tiny", "--suite", "tiny", *SMALL, "--out", finished) == 0
    assert capsys.readouterr().out == printed[0]
    assert {path: path.read_bytes() for path in finished.rglob("*.json*")} == before


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--temperature", "1.0"), "temperature was 0.6 and is now 1.0"),
        (("--samples", "3"), "samples was 2 and is now 3"),
        (("--limit", "9"), "limit was 10 and is now 9"),
        (("--seed", "1"), "seed was 0 and is now 1"),
        (("--prompt-template", "boxed"), "prompt_template was 'auto' and is now 'boxed'"),
        (("--suite", "tiny,tiny2.jsonl"), "suite was ['tiny'] and is now ['tiny', 'tiny2']"),
    ],
)
def test_other_settings_in_the_same_folder_are_an_error(
    options: tuple[str, ...], named: str, finished: Path, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("tiny2.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n')
    error = error_of(capsys, "tiny", "--suite", "tiny", *SMALL, "--out", finished, *options)
    assert error == f"{finished} holds an evaluation whose {named}; give another folder with --out"


@pytest.mark.usefixtures("no_model")
def test_a_retrained_model_in_the_same_place_is_noticed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_PATH, model)
    assert fingerprint(str(model)) == fingerprint("tiny")
    assert evaluate(model, "--suite", "tiny", *SMALL, "--out", finished) == 0
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[len(weights) // 2 :] = bytes(len(weights) - len(weights) // 2)
    (model / "model.safetensors").write_bytes(weights)
    assert "whose model was 'tiny (" in error_of(capsys, model, "--suite", "tiny", *SMALL, "--out", finished)


def test_more_samples_begin_with_the_same_ones(finished: Path, tmp_path: Path) -> None:
    """Whatever the batches: other rows share them here."""
    options = ("--limit", "5", "--samples", "3", "--max-completion-length", "60", "--max-concurrent-tokens", "400")
    assert evaluate("tiny", "--suite", "tiny", *options, "--out", tmp_path / "out") == 0
    more = {(line["id"], line["index"]): line for line in completions(tmp_path / "out")}
    assert len(more) == 15
    fewer = {(line["id"], line["index"]): line for line in completions(finished)}
    shared = more.keys() & fewer.keys()
    assert len(shared) == 10
    assert all(more[pair] == fewer[pair] for pair in shared)


def test_samples_past_a_block_are_new_ones(tmp_path: Path) -> None:
    options = ("--limit", "2", "--samples", "40", "--max-completion-length", "40", "--temperature", "1")
    assert evaluate("tiny", "--suite", "tiny", *options, "--out", tmp_path / "out") == 0
    lines = sorted(completions(tmp_path / "out"), key=lambda line: line["index"])
    assert [line["index"] for line in lines] == sorted([*range(40), *range(40)])
    texts = [[line["completion"] for line in lines if line["id"] == name] for name in {line["id"] for line in lines}]
    assert all(len(each) == 40 and each[32:] != each[:8] for each in texts)
    assert list(results(tmp_path / "out")["pass_at_k"]) == ["1", "2", "4", "8", "16", "32"]


def test_killed_and_gone_on_with_it_is_the_same_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "unigrad", "evaluate", "tiny", "--suite", "tiny", *CHUNKS, "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = killed / "completions" / "tiny.jsonl"
    while not (file.exists() and file.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "results.json").exists()
    # As if it had been killed in the middle of a line, in the middle of a chunk.
    on_disk = b"".join(file.read_bytes().splitlines(keepends=True)[:13])
    file.write_bytes(on_disk + b'{"id": "tiny-0", "index": 0, "compl')
    assert evaluate("tiny", "--suite", "tiny", *CHUNKS, "--out", killed) == 0
    resumed = capsys.readouterr()
    # The chunk's other completions join the thirteen; none of those is sampled again.
    assert "tiny 16/48  " in resumed.err
    assert file.read_bytes().startswith(on_disk)
    assert evaluate("tiny", "--suite", "tiny", *CHUNKS, "--out", whole) == 0
    assert capsys.readouterr().out == resumed.out
    for name in ("completions/tiny.jsonl", "results.json", "settings.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_completions_reach_the_disk_before_their_chunk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SECONDS", 0.0)
    file, sizes = tmp_path / "out" / "completions" / "tiny.jsonl", []
    sample = sampler.BenchmarkSampler.sample

    def watched(self: sampler.BenchmarkSampler, chunk: Chunk, scorer: Scorer, take: Callable[..., None]) -> None:
        def taken(*sampled: Any) -> None:
            take(*sampled)
            sizes.append(len(file.read_bytes().splitlines()))

        sample(self, chunk, scorer, taken)

    monkeypatch.setattr(sampler.BenchmarkSampler, "sample", watched)
    assert evaluate("tiny", "--suite", "tiny", *SMALL, "--out", tmp_path / "out") == 0
    assert sizes == list(range(1, 21))


def test_rescoring_needs_no_model_and_follows_the_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    problems, out = tmp_path / "sums.jsonl", tmp_path / "out"
    arguments = ("--suite", problems, "--prompt-template", "plain", "--out", out)

    def write(answers: list[str]) -> None:
        rows = [{"id": str(i), "problem": f"{400 + i}+2 1?", "answer": answer} for i, answer in enumerate(answers)]
        problems.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(["1", "1"])
    assert evaluate("tiny", *arguments) == 0
    assert results(out, "sums")["accuracy"] == 0.0
    # None of two: no spread in the resamples, and still 1 - sqrt(0.025) cannot be excluded.
    assert (
        "sums: resampling none or all of 2 shows no spread; the exact interval is 0.0–84.2" in capsys.readouterr().out
    )
    request.getfixturevalue("no_model")
    texts = [line["completion"] for line in completions(out, "sums")]
    read = {line["id"]: line["extracted"] for line in completions(out, "sums")}
    write([read["0"], read["1"]])
    error = error_of(capsys, "tiny", *arguments)
    assert "whose answers of sums was" in error
    assert "--rescore verifies again" in error
    # Nor is a model needed that is no longer there.
    assert evaluate("./gone", *arguments, "--rescore") == 0
    printed = capsys.readouterr()
    assert "verified 2 completions again: 2 changed" in printed.err
    assert "the exact interval is 15.8–100.0" in printed.out
    assert results(out, "sums")["accuracy"] == 1.0
    assert [line["completion"] for line in completions(out, "sums")] == texts
    assert evaluate("tiny", *arguments) == 0
    # A completion that was cut off needs a box.
    lines = [{**line, "completion": f"It is {read[line['id']]}"} for line in completions(out, "sums")]
    for truncated, right in ((False, 2), (True, 0)):
        file = out / "completions" / "sums.jsonl"
        file.write_text("".join(json.dumps({**line, "truncated": truncated}) + "\n" for line in lines))
        assert evaluate("./gone", *arguments, "--rescore") == 0
        assert results(out, "sums")["accuracy"] == right / 2


@pytest.mark.usefixtures("no_model")
def test_against_another_evaluation(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    changed = json.loads((other / "results.json").read_text())
    for number, count in enumerate(changed["benchmarks"]["tiny"]["counts"].values()):
        count["c"] = 2 * (number in (3, 4))
    (other / "results.json").write_text(json.dumps(changed))
    arguments = ("tiny", "--suite", "tiny", *SMALL, "--out", finished, "--against")
    assert evaluate(*arguments, other) == 0
    output = capsys.readouterr().out
    solved = [number for number, count in enumerate(results(finished)["counts"].values()) if count["c"] == 2]
    first, second = len({*solved} - {3, 4}), len({3, 4} - {*solved})
    assert f"+{first}/−{second}" in output
    assert "McNemar" in output
    saved = json.loads((finished / "against-other.json").read_text())["exclusive_solves"]["tiny"]["overall"]
    assert (saved["+"], saved["-"], saved["problems"]) == (first, second, 10)
    assert "holds no finished evaluation" in error_of(capsys, *arguments, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny",), "the following arguments are required: --suite"),
        (("--suite", "tiny"), "the following arguments are required: MODEL"),
        (("tiny", "--suite", "tiny", "--temprature", "1"), "unknown option --temprature; did you mean --temperature?"),
        (("tiny", "other", "--suite", "tiny"), "unexpected argument 'other'; one MODEL is evaluated"),
        (("tiny", "--suite", "papr"), "unknown suite 'papr'; did you mean 'paper'?"),
        (("tiny", "--suite", "tiny", "--samples", "0"), "--samples 0: must be above 0"),
        (("tiny", "--suite", "tiny", "--top-p", "1.5"), "--top-p 1.5: must be above 0 and at most 1"),
        (("tiny", "--suite", "tiny", "--temperature", "-1"), "--temperature -1.0: must be at least 0"),
        (("tiny", "--suite", "tiny", "--limit", "x"), "argument --limit: invalid int value: 'x'"),
        (("tiny", "--suite", "tiny", "--prompt-template", "boxd"), "the nearest is 'boxed'"),
        (("tiny", "--suite", "tiny", "--prompt-template", "chat"), "needs a chat template"),
        (("tiny", "--suite", "nowhere.jsonl"), "no file nowhere.jsonl"),
        (("tiny", "--suite", "olympiadbench", "--data", "nowhere"), "--data nowhere: there is no such folder or file"),
        (("./nowhere", "--suite", "tiny"), "there is no model at nowhere"),
        (("tiny", "--suite", "tiny", "--rescore"), "holds no finished evaluation; leave --rescore out"),
        (("tiny", "--suite", "tiny", "--against", "nowhere"), "nowhere holds no finished evaluation"),
        (
            ("tiny", "--suite", "tiny", "--max-completion-length", "8192"),
            "--max-completion-length 8192: the model takes 256 positions",
        ),
        (
            ("tiny", "--suite", "tiny", "--max-concurrent-tokens", "100"),
            "--max-concurrent-tokens 100 holds no completion of tiny",
        ),
        (("tiny", "--suite", "tiny", "--device", "gpu"), "unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("")
    error = error_of(capsys, "tiny", "--suite", "tiny", "--out", tmp_path)
    assert "holds something that is no evaluation" in error
    assert "is a file, not a folder" in error_of(capsys, "tiny", "--suite", "tiny", "--out", tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("model", "suite", "name"),
    [
        ("tiny", "tiny", "tiny-tiny"),
        ("Qwen/Qwen2.5-Math-7B", "paper,ood", "Qwen2.5-Math-7B-paper-ood"),
        ("runs/tiny-hpt/final", "gsm8k", "tiny-hpt-final-gsm8k"),
        ("runs/tiny-hpt/checkpoint-40", "data/my.jsonl.gz", "tiny-hpt-checkpoint-40-my"),
        ("runs/compare-tiny/hpt/seed-0/final", "amc", "hpt-seed-0-final-amc"),
        ("models/small.gguf", "amc", "small-amc"),
    ],
)
def test_the_default_folder_names_model_and_suite(model: str, suite: str, name: str) -> None:
    assert default_folder(model, suite) == Path("evaluations") / name
