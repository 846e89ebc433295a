from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from written_runs import Outcome, WriteRun, metrics, rollout_lines, write_config, write_metrics, write_rollouts


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    def write(name: str, outcomes: dict[str, Sequence[Outcome]], levels: dict[str, int], **keys: object) -> Path:
        """A finished run; outcomes: of each question, epoch after epoch, an epoch being a step."""
        run = tmp_path / name
        write_config(run, **keys)
        steps = max(map(len, outcomes.values()), default=0)
        for step in range(1, steps + 1):
            questions = [(question, epochs[step - 1]) for question, epochs in outcomes.items() if len(epochs) >= step]
            lines = [
                line
                for question, rewards in questions
                for line in rollout_lines(question, levels.get(question), rewards)
            ]
            write_rollouts(run, step, lines)
        write_metrics(run, [metrics(0, accuracy=0.2), *(metrics(step, 0.5, 0.4) for step in range(1, steps + 1))])
        (run / "final").mkdir()
        return run

    return write
