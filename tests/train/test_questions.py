from __future__ import annotations

from unigrad.data import PreparedProblem
from unigrad.train.questions import ProblemSet, Questions
from unigrad.types import Problem, Reason, Trajectory, Verdict


def prepared(name: str, demonstrated: bool) -> PreparedProblem:
    shown = Trajectory(
        prompt_ids=(1,), completion_ids=(2,), rollout_logprobs=None, text="", truncated=False, reward=1.0,
        verdict=Verdict(True, None, Reason.RIGHT),
    )  # fmt: skip
    return PreparedProblem(Problem(id=name, problem="?", answer="1"), "?", (1,), shown if demonstrated else None)


def test_every_problem_once_an_epoch_times_its_weight() -> None:
    sets = [
        ProblemSet([prepared(f"a{i}", i % 2 == 0) for i in range(4)], weight=1.0),
        ProblemSet([prepared(f"b{i}", True) for i in range(3)], weight=2.0),
    ]
    questions = Questions(sets, per_step=5, seed=3)
    assert questions.an_epoch == 10
    met = [each.problem.id for step in (1, 2) for each in questions.at(step, demonstrated=False)]
    assert sorted(met) == ["a0", "a1", "a2", "a3", "b0", "b0", "b1", "b1", "b2", "b2"]
    # Of those with a demonstration alone: two of the first set, twice three of the second.
    shown = [each.problem.id for step in (1, 2, 3, 4) for each in questions.at(step, demonstrated=True)]
    assert {name: shown[:8].count(name) for name in set(shown)} == {"a0": 1, "a2": 1, "b0": 2, "b1": 2, "b2": 2}
    again = Questions(sets, per_step=5, seed=3)
    assert again.at(2, demonstrated=True) == questions.at(2, demonstrated=True)
