"""A rollout's line, from the writer to the reader."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from unigrad.errors import ConfigError
from unigrad.runs.rollouts import GateDecision, RolloutLine, questions, write_rollouts
from unigrad.types import Reason

ROLLOUT = RolloutLine(
    id="q", level=3, sample=0, prompt="2 + 2?\n", completion="4", answer="4", verdict=Reason.RIGHT, extracted="4",
    reward=1.0, truncated=False, tokens=2, gate=GateDecision(1.0, 0.0, 1, False), trained=True, pieces=["4", ""],
    logprobs=[-0.1, -2.0],
)  # fmt: skip
DEMONSTRATION = replace(ROLLOUT, sample=None, level=None, extracted=None, pieces=None, logprobs=None)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "000001.jsonl"
    write_rollouts(path, [ROLLOUT, DEMONSTRATION])
    (question,) = questions(path)
    assert question.lines == [ROLLOUT, DEMONSTRATION]
    assert (question.rollouts, question.solved, question.accuracy) == ([ROLLOUT], 1, 1.0)


def test_the_keys_of_a_line() -> None:
    keys = {
        "id", "kind", "level", "sample", "problem", "prompt", "completion", "answer", "verdict", "extracted", "reward",
        "truncated", "tokens", "gate", "trained",
    }  # fmt: skip
    rollout, demonstration = (json.loads(each.as_json()) for each in (ROLLOUT, DEMONSTRATION))
    assert (set(rollout), rollout["kind"]) == (keys | {"pieces", "logprobs"}, "rollout")
    assert (set(demonstration), demonstration["kind"]) == (keys, "demonstration")
    assert rollout["gate"] == {"alpha": 1.0, "beta": 0.0, "solved": 1, "fell_back": False}


def test_what_a_later_version_adds_is_left_out_and_what_lacks_is_said(tmp_path: Path) -> None:
    path, data = tmp_path / "000001.jsonl", json.loads(ROLLOUT.as_json())
    path.write_text(json.dumps({**data, "new": 1, "gate": {**data["gate"], "new": 1}}) + "\n", encoding="utf-8")
    assert [each.lines for each in questions(path)] == [[ROLLOUT]]
    for lacking in ("prompt", "gate.beta"):
        first, _, second = lacking.partition(".")
        broken = json.loads(ROLLOUT.as_json())
        del (broken[first] if second else broken)[second or first]
        path.write_text(ROLLOUT.as_json() + "\n" + json.dumps(broken) + "\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=rf"000001\.jsonl, line 2: a rollout without {lacking}$"):
            list(questions(path))


def test_solved_is_what_the_gate_was_told(tmp_path: Path) -> None:
    path, partial = tmp_path / "000001.jsonl", replace(ROLLOUT, reward=0.4)
    write_rollouts(path, [partial, replace(partial, sample=1, reward=0.1)])
    (question,) = questions(path)
    assert (question.solved, question.accuracy) == (1, 0.5)
