"""Which rollouts go into the page, and what of them."""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from written_runs import rollout_lines, write_rollouts

from unigrad.report.sample import Sample, Step, _evenly, sample
from unigrad.runs.folder import rollouts_files

MANY = 10**9


def unpacked(step: Step) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(step.payload)))
    return data


def size(found: Sample) -> int:
    return sum(len(step.payload) for step in found.steps)


def test_all_of_it_where_it_fits(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 4, [*rollout_lines("a", 3, (1, 0)), *rollout_lines("b", 5, None)])
    found = sample(rollouts_files(tmp_path), MANY)
    assert found.is_whole
    (step,) = found.steps
    assert (step.step, step.questions, step.of) == (4, 2, 2)
    first, second = unpacked(step)["questions"]
    assert {key: first[key] for key in ("id", "level", "answer", "rollouts")} == {
        "id": "a", "level": 3, "answer": "7", "rollouts": 2,
    }  # fmt: skip
    assert first["gate"] == {"alpha": 1.0, "beta": 0.0, "solved": 1, "fell_back": False}
    assert first["lines"][0]["pieces"] == ["It", " is", " 7.", ""]
    assert first["lines"][0]["logprobs"] == [-1, -50, -200, -400]
    assert (second["rollouts"], second["lines"][0]["sample"], second["lines"][0]["text"]) == (0, None, "Seven: 7.")


@pytest.mark.parametrize("broken", [{"pieces": None}, {"logprobs": None}, {"pieces": ["one"]}])
def test_without_tokens_the_text_is_there_whole(broken: dict[str, Any], tmp_path: Path) -> None:
    write_rollouts(tmp_path, 1, rollout_lines("a", 3, (1,), **broken))
    (question,) = unpacked(sample(rollouts_files(tmp_path), MANY).steps[0])["questions"]
    assert question["lines"][0]["text"] == "It is 7."
    assert "pieces" not in question["lines"][0]


def test_a_budget_leaves_out_steps_and_questions_evenly(tmp_path: Path) -> None:
    rng = random.Random(0)
    for step in range(1, 41):
        lines = []
        for question in range(16):
            text = "".join(rng.choice("abcdefghij") for _ in range(200))
            # Half of the questions of each step are never solved.
            changes = {"completion": text, "pieces": None}
            lines += rollout_lines(f"{step}-{question}", None, (0,) if question < 8 else (1,), **changes)
        write_rollouts(tmp_path, step, lines)
    files = rollouts_files(tmp_path)
    whole = size(sample(files, MANY))
    for share in (2, 5, 20):
        found = sample(files, whole // share)
        assert size(found) <= whole // share
        assert size(found) > 0.5 * whole / share
        assert not found.is_whole
        steps = [step.step for step in found.steps]
        assert steps == sorted(steps)
        assert steps[-1] == 40
        gaps = [b - a for a, b in zip([0, *steps], [*steps, 41], strict=True)]
        assert max(gaps) <= 2 * 41 / len(steps) + 1
        solved = [bool(question["gate"]["solved"]) for step in found.steps for question in unpacked(step)["questions"]]
        assert 0.3 < sum(solved) / len(solved) < 0.7


def test_every_beginning_of_the_order_is_spread() -> None:
    assert _evenly([1, 2, 3, 4, 5, 6, 7, 8]) == [8, 1, 5, 3, 7, 2, 6, 4]
    assert _evenly([7]) == [7]
    assert _evenly([]) == []
    assert sorted(_evenly(list(range(500)))) == list(range(500))


def test_what_never_fits_and_what_is_not_there(tmp_path: Path) -> None:
    assert sample({}, MANY) == Sample([], 0)
    write_rollouts(tmp_path, 1, rollout_lines("a", 3, (1,)))
    assert sample(rollouts_files(tmp_path), 10) == Sample([], 1)
    write_rollouts(tmp_path, 2, [])
    assert [step.questions for step in sample(rollouts_files(tmp_path), MANY).steps] == [1, 0]
