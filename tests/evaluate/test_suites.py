"""Suites, and where their problems come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unigrad.data.rows import Row
from unigrad.errors import ConfigError
from unigrad.evaluate import benchmark_problems
from unigrad.evaluate.benchmark_problems import load_benchmark
from unigrad.evaluate.hub_rows import gpqa_problem
from unigrad.evaluate.suites import BENCHMARKS, SUITES, requested

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "eval"


def test_the_papers_suites_in_its_order_and_with_its_samples() -> None:
    paper, ood, gsm8k = requested("paper,ood,gsm8k")
    assert [each.title for each in (*paper.benchmarks, *ood.benchmarks)] == [
        "AIME 24", "AIME 25", "AMC", "MATH-500", "Minerva", "Olympiad", "ARC-c", "GPQA",
    ]  # fmt: skip
    assert [each.samples for each in (*paper.benchmarks, *ood.benchmarks)] == [32, 32, 32, 1, 1, 1, 1, 1]
    assert (paper.name, ood.name, gsm8k.name) == ("paper", "ood", None)


def test_a_benchmark_is_evaluated_once(tmp_path: Path) -> None:
    assert [suite.name for suite in requested("paper, aime24 ,gsm8k")] == ["paper", None]
    with pytest.raises(ConfigError, match="two different benchmarks have the name 'math500'"):
        requested(f"math500,{tmp_path / 'math500.jsonl'}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("papr", "unknown suite 'papr'; did you mean 'paper'"),
        ("math-500", "did you mean 'math500'"),
        (" , ", "names nothing; there are: paper, ood, aime24"),
    ],
)
def test_unknown_suites(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        requested(text)


@pytest.mark.skipif(not REAL.is_dir(), reason="the local benchmark problems are not here")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("aime24", 30), ("aime25", 30), ("amc", 83), ("math500", 500), ("minerva", 272), ("olympiadbench", 675),
        ("arc_c", 1172), ("gpqa_diamond", 198), ("gsm8k", 1319),
    ],
)  # fmt: skip
def test_every_benchmark_loads_from_local_copies(name: str, count: int) -> None:
    loaded = load_benchmark(BENCHMARKS[name], REAL, None)
    assert len(loaded.problems) == count
    assert loaded.source == str(REAL / f"{name}.jsonl.gz")
    kinds = {problem.kind for problem in loaded.problems}
    # Three problems of MATH-500 ask for the letter of an option.
    assert kinds == ({"choice"} if name in SUITES["ood"] else {"math", "choice"} if name == "math500" else {"math"})
    assert {problem.level for problem in loaded.problems} == ({1, 2, 3, 4, 5} if name == "math500" else {None})
    assert load_benchmark(BENCHMARKS[name], REAL, 7).problems == loaded.problems[:7]


def test_where_a_local_copy_is_looked_for(tmp_path: Path) -> None:
    row = {"id": "1", "problem": "1+1?", "answer": "2"}
    (tmp_path / "olympiadbench.jsonl").write_text(json.dumps(row) + "\n")
    assert load_benchmark(BENCHMARKS["olympiadbench"], tmp_path, None).problems[0].answer == "2"
    assert load_benchmark(BENCHMARKS["olympiadbench"], tmp_path / "olympiadbench.jsonl", None).problems[0].id == "1"
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_benchmark(BENCHMARKS["olympiadbench"], tmp_path / "nowhere", None)
    (file,) = requested(str(tmp_path / "olympiadbnch.jsonl"))[0].benchmarks
    with pytest.raises(ConfigError, match=r"the nearest is .*olympiadbench\.jsonl"):
        load_benchmark(file, None, None)


def test_answers_and_problems_are_told_apart(tmp_path: Path) -> None:
    digests = []
    for answer, text in (("2", "1+1?"), ("3", "1+1?"), ("2", "1+2?")):
        path = tmp_path / "set.jsonl"
        path.write_text(json.dumps({"id": "1", "problem": text, "answer": answer}) + "\n")
        loaded = load_benchmark(requested(str(path))[0].benchmarks[0], None, None)
        digests.append((loaded.problems_digest, loaded.answers_digest))
    assert digests[0][0] == digests[1][0] != digests[2][0]
    assert digests[0][1] == digests[2][1] != digests[1][1]


def rows_of(columns: dict[str, Any]) -> Any:
    return lambda source, **_: [Row(f"{source}, row 1", f"{source}:1", columns)]


def test_a_row_of_arc_becomes_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"text": ["coal", "the sun", "wind"], "label": ["1", "2", "3"]}
    columns = {"id": "X_1", "question": "What shines?", "choices": choices, "answerKey": "2"}
    monkeypatch.setattr(benchmark_problems, "read_rows", rows_of(columns))
    (problem,) = load_benchmark(BENCHMARKS["arc_c"], None, None).problems
    assert problem.problem == "What shines?\n\nA) coal\nB) the sun\nC) wind"
    assert (problem.id, problem.answer, problem.kind) == ("X_1", "B", "choice")
    monkeypatch.setattr(benchmark_problems, "read_rows", rows_of({"question": "What shines?"}))
    with pytest.raises(ConfigError, match=r"row 1: not a row of ARC-c: 'choices'; name the folder of a local copy"):
        load_benchmark(BENCHMARKS["arc_c"], None, None)


def test_a_row_of_olympiadbench_becomes_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {
        "id": 1606,
        "question": "Solve it.",
        "final_answer": ["$(1,8)$", "$x=\\frac{1}{2}$"],
        "solution": ["So."],
    }
    monkeypatch.setattr(benchmark_problems, "read_rows", rows_of(columns))
    loaded = load_benchmark(BENCHMARKS["olympiadbench"], None, None)
    (problem,) = loaded.problems
    assert (problem.id, problem.problem, problem.answer) == ("1606", "Solve it.", "(1,8), x=\\frac{1}{2}")
    assert loaded.source == "hub: math-ai/olympiadbench"


def test_a_hub_out_of_reach_names_the_other_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no connection\nto the hub")

    monkeypatch.setattr(benchmark_problems, "read_rows", unreachable)
    with pytest.raises(ConfigError, match=r"^olympiadbench: no connection to the hub; name the folder .* --data$"):
        load_benchmark(BENCHMARKS["olympiadbench"], None, None)
    with pytest.raises(ConfigError, match=r"give a local copy: .*olympiadbench\.jsonl"):
        load_benchmark(BENCHMARKS["olympiadbench"], tmp_path, None)


def test_the_right_option_of_gpqa_stands_anywhere() -> None:
    answers = set()
    for number in range(40):
        row = {"Question": f"Question {number}?\n", "Correct Answer": " yes\n"}
        row |= {f"Incorrect Answer {wrong}": f"no {wrong}" for wrong in (1, 2, 3)}
        problem, answer = gpqa_problem(row)
        assert f"\n{answer}) yes" in problem
        assert all(f") no {wrong}" in problem for wrong in (1, 2, 3))
        assert gpqa_problem(row) == (problem, answer)
        answers.add(answer)
    assert answers == set("ABCD")
