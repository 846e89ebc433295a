"""The names of the metrics, and what is read back by them."""

from __future__ import annotations

import json
from pathlib import Path

from unigrad.runs.metrics import Accuracy, Metric, RunMetrics, measure


def test_a_name_is_a_text_with_a_meaning() -> None:
    assert f"{Metric.REWARD_MEAN}" == "reward/mean"
    assert json.dumps({Metric.REWARD_MEAN: 1}) == '{"reward/mean": 1}'
    assert {"reward/mean": 1}[Metric.REWARD_MEAN] == 1


def test_the_page_lists_every_metric() -> None:
    rows = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8").splitlines()
    shown = [row for row in rows if row.startswith("| `") and "<" not in row]
    assert shown == [f"| `{metric}` | {metric.meaning} |" for metric in Metric]


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert measure(tmp_path) is None
    found = Accuracy(0.5, {3: 0.75, 5: 0.25})
    lines = [{Metric.STEP: 0, **found.metrics("my/set")}, {Metric.STEP: 1, Metric.LOSS: None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = RunMetrics(tmp_path)
    assert run.evaluations == {0: found}
    assert (run.base, run.final, run.steps, run.offline_ratio) == (found, found, 1, None)
    assert run.curve(Metric.LOSS) == {}
