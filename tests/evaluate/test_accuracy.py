from __future__ import annotations

import pytest

from unigrad.data import PreparedProblem
from unigrad.evaluate import accuracy
from unigrad.rollout import Rollouts
from unigrad.types import Problem, Reason, Trajectory, Verdict


def prepared(name: str, level: int | None) -> PreparedProblem:
    problem = Problem(id=name, problem="?", answer="1", level=level)
    return PreparedProblem(problem=problem, prompt="?", prompt_ids=(1,), demonstration=None)


def trajectories(verdicts: list[bool]) -> tuple[Trajectory, ...]:
    return tuple(
        Trajectory(
            prompt_ids=(1,),
            completion_ids=(2, 3),
            rollout_logprobs=(-1.0, -1.0),
            text="",
            truncated=False,
            reward=float(right),
            verdict=Verdict(right, None, Reason.RIGHT if right else Reason.WRONG),
        )
        for right in verdicts
    )


def test_avg_at_k_over_all_and_by_level() -> None:
    problems = [prepared("a", 1), prepared("b", 2), prepared("c", 2), prepared("d", None)]
    groups = [[True, True], [True, False], [False, False], [False, True]]
    rollouts = Rollouts([trajectories(g) for g in groups], entropy=0.0, sampling_seconds=0.0, scoring_seconds=0.0)
    found = accuracy(problems, rollouts)
    # Shares 1, 1/2, 0, 1/2: their mean is 1/2; level 2 has 1/2 and 0.
    assert found.accuracy == pytest.approx(0.5)
    assert found.by_level == {1: 1.0, 2: 0.25}
    assert found.metrics("set") == {"eval/set/accuracy": 0.5, "eval/set/level_1": 1.0, "eval/set/level_2": 0.25}
    assert rollouts.tokens == 16
