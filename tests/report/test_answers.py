"""The completions of an evaluation in the page: which of them, and what with them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from written_runs import write_evaluation

from unigrad.cli import main
from unigrad.evaluate.folder import read_problems
from unigrad.report.answers import MOST, answers
from unigrad.report.contents import assemble
from unigrad.report.evaluations import find_evaluations
from unigrad.report.sample import Sample

RIGHT = {"p1": 4, "p2": 1, "p3": 0}
ROOM = 10**6


def unpacked(found: Sample) -> list[dict[str, Any]]:
    (step,) = found.steps
    questions: list[dict[str, Any]] = json.loads(gzip.decompress(base64.b64decode(step.payload)))["questions"]
    return questions


def test_every_completion_with_its_problem(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", "ours", 0.4, RIGHT)
    (evaluation,) = find_evaluations([tmp_path / "evaluation"])
    found = answers(evaluation, ROOM)
    assert found.is_whole
    assert [(step.title, step.questions, step.of) for step in found.steps] == [("MATH-500", 3, 3)]
    first, second, third = unpacked(found)
    assert (first["problem"], first["answer"], first["level"]) == ("What is p1?", "7", 3)
    assert [each["solved"] for each in (first, second, third)] == [4, 1, 0]
    assert [line["right"] for line in second["lines"]] == [True, False, False, False]
    assert [line["text"] for line in second["lines"][:2]] == ["It is 7.", "It is 8."]


def test_a_folder_from_before_problems_were_kept(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", "ours", 0.4, RIGHT)
    (tmp_path / "evaluation" / "problems" / "math500.jsonl").unlink()
    (evaluation,) = find_evaluations([tmp_path / "evaluation"])
    first = unpacked(answers(evaluation, ROOM))[0]
    assert (first["id"], first["problem"], first["answer"], len(first["lines"])) == ("p1", None, None, 4)


def test_a_budget_leaves_out_completions_and_problems_evenly(tmp_path: Path) -> None:
    # Lines that hardly get smaller when they are packed.
    noise = base64.b64encode(bytes((7 * byte * byte + byte) % 251 for byte in range(600))).decode()
    right = {f"p{number}": 2 * number for number in range(21)}
    write_evaluation(tmp_path / "evaluation", "ours", 0.4, right, samples=40, text=f"{noise}{{}}")
    (evaluation,) = find_evaluations([tmp_path / "evaluation"])
    whole = unpacked(answers(evaluation, ROOM))
    assert {len(each["lines"]) for each in whole} == {MOST}
    budget = len(answers(evaluation, ROOM).steps[0].payload) // 3
    part = answers(evaluation, budget)
    assert not part.is_whole
    assert len(part.steps[0].payload) <= budget
    questions = unpacked(part)
    assert {"p0", "p20"} <= {each["id"] for each in questions}
    assert {each["rollouts"] for each in questions} == {40}
    assert all(each["solved"] == right[each["id"]] for each in questions)
    assert answers(evaluation, 10).steps == []
    assert "ours, evaluation" not in assemble([], [evaluation], 10).samples


def test_the_command_keeps_the_problems(tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ["--suite", "tiny", "--limit", "2", "--samples", "2", "--max-completion-length", "8", "--out", str(out)]
    assert main(["evaluate", "tiny", *small]) == 0
    asked = read_problems(out, "tiny")
    assert len(asked) == 2
    (out / "problems" / "tiny.jsonl").unlink()
    assert main(["evaluate", "tiny", *small, "--rescore"]) == 0
    assert read_problems(out, "tiny") == asked
    (evaluation,) = find_evaluations([out])
    assert [each["problem"] for each in unpacked(answers(evaluation, ROOM))] == [
        each.problem for each in asked.values()
    ]
