"""`gate/offline_rows`: the share of the demonstrations in the rows that train, as the paper's authors count it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from unigrad.hybrid import Decision
from unigrad.train.metrics import decision_metrics
from unigrad.types import Group, Problem, Reason, Trajectory, Verdict


def group(*rewards: int) -> Group:
    def trajectory(reward: int, sampled: bool) -> Trajectory:
        return Trajectory(
            prompt_ids=(1,),
            completion_ids=(2,),
            rollout_logprobs=(-1.0,) if sampled else None,
            text="",
            truncated=False,
            reward=float(reward),
            verdict=Verdict(bool(reward), None, Reason.RIGHT if reward else Reason.WRONG),
        )

    problem = Problem(id="p", problem="p", answer="a")
    return Group(
        problem=problem, rollouts=[trajectory(each, True) for each in rewards], demonstration=trajectory(1, False)
    )


SFT, RL, BOTH, DROPPED = Decision(0.0, (1.0,)), Decision(1.0, (0.0,)), Decision(0.5, (0.3, 0.2)), Decision(0.0, (0.0,))


@pytest.mark.parametrize(
    ("decisions", "share"),
    [
        ([SFT, RL, RL], Fraction(1, 9)),
        ([SFT, SFT, RL], Fraction(2, 6)),
        ([SFT, DROPPED, DROPPED], Fraction(1)),
        ([BOTH, BOTH, BOTH], Fraction(3, 15)),
        ([RL, RL, DROPPED], Fraction(0)),
    ],
)
def test_a_group_brings_all_its_rollouts_and_a_demonstration_is_one(decisions: list[Decision], share: Fraction) -> None:
    # All solved: its advantages are 0, and its rows are among the authors' all the same.
    groups = [group(0, 0, 0, 0), group(1, 0, 0, 0), group(1, 1, 1, 1)]
    assert decision_metrics(groups, decisions)["gate/offline_rows"] == pytest.approx(float(share))


def test_a_step_that_trains_nothing_has_no_share() -> None:
    assert "gate/offline_rows" not in decision_metrics([group(0, 0)], [DROPPED])


def test_under_sft_all_rows_are_demonstrations() -> None:
    assert decision_metrics([group(), group()], [SFT, SFT])["gate/offline_rows"] == 1.0
