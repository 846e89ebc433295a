"""The hub's copies of the benchmarks, each as a folder with its repository's name, files, configurations and columns.

The rows are this project's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from unigrad.evaluate.benchmark_problems import load_benchmark
from unigrad.evaluate.suites import BENCHMARKS, TINY
from unigrad.verify import verify

QUESTION = "What is one and one?"
OLYMPIAD = {
    "id": 1606, "question": QUESTION, "solution": ["So."], "final_answer": ["$2$"], "context": None,
    "is_multiple_answer": False, "unit": None, "answer_type": "Numerical",
}  # fmt: skip
ARC = {"id": "X_1", "question": QUESTION, "choices": {"text": ["3", "2"], "label": ["A", "B"]}, "answerKey": "B"}
GPQA = {
    "Record ID": "rec1", "Question": QUESTION, "Correct Answer": "2 of it", "Incorrect Answer 1": "3 of it",
    "Incorrect Answer 2": "4 of it", "Incorrect Answer 3": "5 of it", "Subdomain": "Sums",
}  # fmt: skip
GSM8K = {"question": QUESTION, "answer": "One and one is <<1+1=2>>2.\n#### 2"}
MATH = {"problem": QUESTION, "solution": "2", "answer": "2", "subject": "Algebra", "level": 3, "unique_id": "test/a/1"}


def parquet(path: Path, row: dict[str, Any]) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), path)


def lines(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")


def csv(path: Path, row: dict[str, Any]) -> None:
    pyarrow.csv.write_csv(pa.Table.from_pylist([row]), path)


CASES: list[tuple[str, str, Callable[[Path, dict[str, Any]], None], dict[str, Any], str | None]] = [
    ("aime24", "data/train-00000-of-00001.parquet", parquet,
     {"id": 60, "problem": QUESTION, "solution": "2", "answer": "2", "url": "", "year": "2024"}, None),
    ("aime25", "test.jsonl", lines, {"problem": QUESTION, "answer": "2", "id": "0"}, None),
    ("amc", "data/train-00000-of-00001.parquet", parquet,
     {"id": 0, "problem": QUESTION, "answer": 2.0, "url": ""}, None),
    ("math500", "test.jsonl", lines, MATH, None),
    ("minerva", "test.jsonl", lines, {"question": QUESTION, "answer": "2"}, None),
    ("olympiadbench", "test.jsonl", lines, OLYMPIAD, None),
    ("arc_c", "ARC-Challenge/test-00000-of-00001.parquet", parquet, ARC, "ARC-Challenge"),
    ("gpqa_diamond", "gpqa_diamond.csv", csv, GPQA, "gpqa_diamond"),
    ("gsm8k", "main/test-00000-of-00001.parquet", parquet, GSM8K, "main"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "write", "row", "configuration"), CASES)
def test_a_row_of_each(
    name: str, file: str, write: Callable[[Path, dict[str, Any]], None], row: dict[str, Any],
    configuration: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    benchmark = BENCHMARKS[name]
    path = tmp_path / str(benchmark.hub) / file
    path.parent.mkdir(parents=True)
    write(path, row)
    if configuration is not None:
        readme = tmp_path / str(benchmark.hub) / "README.md"
        data_files = f"[{{split: {benchmark.split}, path: {file}}}]"
        readme.write_text(f"---\nconfigs:\n- config_name: {configuration}\n  data_files: {data_files}\n---\n")
    loaded = load_benchmark(benchmark, None, None)
    (problem,) = loaded.problems
    assert loaded.source == f"hub: {benchmark.hub}"
    assert problem.problem.startswith(QUESTION)
    assert problem.level == (3 if name == "math500" else None)
    if problem.kind == "choice":
        assert f"{problem.answer}) 2" in problem.problem
        assert verify(rf"\boxed{{{problem.answer}}}", problem.answer, kind="choice").correct
    else:
        assert verify(r"\boxed{2}", problem.answer).correct
        assert not verify(r"\boxed{3}", problem.answer).correct


def test_every_benchmark_of_the_hub_is_above() -> None:
    assert {case[0] for case in CASES} == BENCHMARKS.keys() - {TINY}
