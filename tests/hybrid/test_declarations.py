"""Every method written down a second time: its terms, its gate, its stages, and where it is compared."""

from __future__ import annotations

import pytest

from unigrad.hybrid import METHODS, Stage

SUMMED_RL = ("grpo", "rollouts", "rollouts", 1.0, "token_sum")
GROUP_RL = ("grpo", "rollouts", "both", 1.0, "token_sum")
GRPO = ("grpo", "rollouts", "rollouts", 1.0, "sequence_mean")
SFT = ("sft", "demonstrations", "demonstrations", 1.0, "sequence_mean")
LUFFY = ("luffy", "demonstrations", "both", 1.0, "token_mean")
TERMS = {
    "sft": [GRPO, SFT],
    "grpo": [GRPO, SFT],
    "luffy": [("grpo", "rollouts", "both", 1.0, "sequence_mean"), LUFFY],
    "srft": [
        ("srft_rollouts", "rollouts", "both", 1.0, "sequence_mean"),
        ("srft", "demonstrations", "both", 1.0, "sequence_mean"),
        ("srft_sft", "demonstrations", "demonstrations", 1.0, "sequence_mean"),
    ],
    "off_on": [GROUP_RL, LUFFY],
    "mix_on": [GROUP_RL, LUFFY, (*SFT[:3], 0.1, SFT[4])],
    "soft_mix": [GROUP_RL, LUFFY, SFT],
    "soft_off": [GROUP_RL, LUFFY, SFT],
    "chord_mu": [GRPO, (*SFT[:4], "token_mean")],
    "chord_phi": [GRPO, ("chord_phi", "demonstrations", "demonstrations", 1.0, "token_mean")],
    "ppo": [("ppo", "rollouts", "rollouts", 1.0, "token_mean"), SFT],
}
HPT_TERMS = (
    "hpt",
    "hpt_gate1",
    "hpt_gate2",
    "always_both",
    "soft",
    "soft_table",
    "random_gate",
    "constant_mix",
    "drop_failed",
)
GATES = {
    "hpt": "switch", "sft": "demonstrations", "grpo": "rollouts", "luffy": "both", "srft": "both", "off_on": "switch",
    "mix_on": "switch", "hpt_gate1": "switch", "hpt_gate2": "switch", "always_both": "both", "soft": "linear",
    "soft_table": "table", "soft_mix": "table", "soft_off": "table", "chord_mu": "both", "chord_phi": "table",
    "ppo": "rollouts", "random_gate": "switch", "constant_mix": "switch", "drop_failed": "drop",
}  # fmt: skip


def written(stage: Stage) -> list[tuple[str, str, str, float, str]]:
    return [
        (each.name, each.members, each.compared, each.coefficient, each.algorithm.aggregation) for each in stage.terms
    ]


@pytest.mark.parametrize("name", [*TERMS, *HPT_TERMS])
def test_the_terms_of_each_method(name: str) -> None:
    (stage,) = METHODS[name].stages
    assert written(stage) == TERMS.get(name, [SUMMED_RL, SFT])
    assert stage.gate == GATES[name]
    assert stage.samples == (name != "sft")
    assert stage.shows == (name not in ("grpo", "ppo", "drop_failed"))


def test_these_are_all() -> None:
    assert {*TERMS, *HPT_TERMS, "sft_then_grpo"} == set(METHODS)
    first, second = METHODS["sft_then_grpo"].stages
    assert (first, second) == tuple(
        Stage(**{**vars(METHODS[name].stages[0]), "share": 0.5}) for name in ("sft", "grpo")
    )


def test_what_is_compared_in_which_table() -> None:
    assert {name for name, each in METHODS.items() if "main" in each.sets} == {
        "hpt", "sft", "grpo", "sft_then_grpo", "luffy", "srft"
    }  # fmt: skip
    assert {name for name, each in METHODS.items() if "table5" in each.sets} == {"hpt", "off_on", "mix_on"}
    assert {name for name, each in METHODS.items() if "table6" in each.sets} == {"hpt", "hpt_gate1", "hpt_gate2"}
    assert {name for name, each in METHODS.items() if "controls" in each.sets} == {
        "hpt", "random_gate", "constant_mix", "drop_failed"
    }  # fmt: skip
    assert {name: each.paradigm for name, each in METHODS.items() if each.paradigm} == {
        "hpt": "SFT/ON (hpt)", "off_on": "OFF/ON", "mix_on": "Mix/ON"
    }  # fmt: skip


def test_gamma_of_hpt_alone() -> None:
    """Table 6 is made of the methods that differ from HPT in γ and in nothing else."""
    found = {name: each.threshold for name, each in METHODS.items() if each.threshold is not None}
    assert found == {"hpt": 0.0, "hpt_gate1": 1.0, "hpt_gate2": 2.0}


def test_a_declaration_as_data() -> None:
    assert METHODS["mix_on"].rows() == [
        {
            "name": "mix_on",
            "description": METHODS["mix_on"].description,
            "share": 1.0,
            "gate": "switch",
            "gate_options": {"threshold": 0},
            "across": "own",
            "schedule": "constant",
            "on_policy": "grpo",
            "on_policy_options": {"aggregation": "token_sum"},
            "on_policy_peers": "both",
            "offline": {"luffy": 1.0, "sft": 0.1},
        }
    ]
    first, second = METHODS["sft_then_grpo"].rows()
    assert (first["on_policy"], first["on_policy_options"], first["on_policy_peers"]) == (None, {}, None)
    assert (first["share"], first["offline"], second["offline"]) == (0.5, {"sft": 1.0}, {})
