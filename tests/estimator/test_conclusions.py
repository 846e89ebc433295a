"""What bias_variance.py says of its tables turns round when the numbers do."""

from __future__ import annotations

from bias_variance import Errors
from conclusions import change, mixed_conclusions, off_policy_conclusions

ROWS = (
    "reinforce", "ppo", "grpo", "dr_grpo", "dapo", "rloo", "rloo_sequence", "rloo_sequence, unclipped", "cispo", "gspo",
    "gspo, clip 0.2",
)  # fmt: skip


def off_policy(**changed: list[Errors]) -> str:
    same = [Errors(0.0, 1.0, 1.0), Errors(0.5, 1.0, 1.25)]
    return off_policy_conclusions({name: changed.get(name, same) for name in ROWS})


def test_a_change_says_which_way() -> None:
    assert change("bias", 0.1, 0.3) == "raises the bias from 0.10 to 0.30"
    assert change("bias", 0.3, 0.1) == "lowers the bias from 0.30 to 0.10"
    assert change("bias", 0.3, 0.3) == "leaves the bias at 0.30"


def test_who_is_exact_and_who_is_biased_follows_from_the_numbers() -> None:
    assert "On-policy these are biased, most first: none." in off_policy()
    exact = off_policy(cispo=[Errors(0.0, 1.0, 1.0), Errors(0.0, 3.0, 9.0)], dapo=[Errors(0.4, 1.0, 1.2)] * 2)
    assert "On-policy these are biased, most first: `dapo`." in exact
    assert "Exact at every distance: `cispo`." in exact
    assert "raises the deviation from 1.00 to 3.00" in exact


def test_whether_ppo_lowers_reinforces_variance_is_looked_up() -> None:
    assert "on-policy: not seen (1.00 to 1.00)" in off_policy()
    assert "on-policy: seen (1.00 to 0.50)" in off_policy(ppo=[Errors(0.0, 0.5, 0.25)] * 2)


def test_the_common_objective_is_judged_by_its_distance() -> None:
    table = {"reinforce + sft": [Errors(0.0, 1.0, 1.0), Errors(0.5, 0.5, 0.5), Errors(0.7, 0.1, 0.6)]}
    assert "That bias is another objective's" in mixed_conclusions(table, 1e-14)
    assert "That bias is NOT another objective's" in mixed_conclusions(table, 1e-2)
    assert "lowest at 1/2" in mixed_conclusions(table, 0.0)
