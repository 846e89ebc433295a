from __future__ import annotations

import json
import math
from pathlib import Path

from unigrad.runs.records import Records
from unigrad.runs.rollouts import GateDecision, RolloutLine


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def line(completion: str) -> RolloutLine:
    return RolloutLine(
        id="q", sample=0, prompt="", completion=completion, answer="1", verdict="wrong", extracted=None, reward=0.0,
        truncated=False, tokens=1, gate=GateDecision(1.0, 0.0, 0, False), trained=True,
    )  # fmt: skip


def test_metrics_are_one_object_a_line_and_nan_is_null(tmp_path: Path) -> None:
    records = Records(tmp_path, 0, tensorboard=True)
    records.metrics({"step": 0, "eval/tiny/accuracy": 0.5})
    records.metrics({"step": 1, "loss": math.nan})
    records.close()
    assert lines(tmp_path) == [{"step": 0, "eval/tiny/accuracy": 0.5}, {"step": 1, "loss": None}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_run_forgets_the_steps_it_does_again_and_a_line_cut_off(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    records = Records(tmp_path, 2, tensorboard=False)
    records.metrics({"step": 2, "loss": 1.0})
    records.close()
    assert lines(tmp_path) == [{"step": 0}, {"step": 1}, {"step": 2, "loss": 1.0}]


def test_rollout_files_survive_any_text(tmp_path: Path) -> None:
    records = Records(tmp_path, 0, tensorboard=False)
    records.rollouts(7, [line("a\nb\u2028\ud800\x00"), line("")])
    records.close()
    text = (tmp_path / "rollouts" / "000007.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["completion"] for line in text.split("\n")[:-1]] == ["a\nb\u2028\ud800\x00", ""]
