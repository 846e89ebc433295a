"""From configuration to objectives: where each option goes, and what is said of one that goes nowhere."""

from __future__ import annotations

import re

import pytest

from unigrad.config import load_config
from unigrad.errors import ConfigError
from unigrad.hybrid import METHODS, Objective
from unigrad.train.objectives import objectives


def built(method: str, **options: str) -> list[Objective]:
    overrides = {key.replace("__", "."): value for key, value in options.items()}
    return objectives(load_config("tiny", {"method.name": method, **overrides}))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_built_from_its_declaration(name: str) -> None:
    stages = built(name, algorithm__name="null")
    assert [[(term.name, term.members, term.peers) for term in stage.terms] for stage in stages] == [
        [(term.name, term.members, term.peers) for term in each.terms] for each in METHODS[name].stages
    ]
    assert stages[-1].until == pytest.approx(1)


def test_options_reach_the_gate_the_schedule_and_the_algorithms() -> None:
    (hpt,) = built("hpt", method__threshold="3", method__beta="0.3", algorithm__clip_high="0.28")
    assert hpt.gate(solved=3, n=8) == (0, 1)
    assert hpt.beta == 0.3
    assert hpt.terms[0].algorithm.defaults()["clip_high"] == 0.28
    (chord_mu,) = built("chord_mu", method__mu_peak="0.5")
    assert chord_mu.schedule(0.0) == (0.5, 0.5)
    (srft,) = built("srft", algorithm__name="null", algorithm__offline_name="luffy", algorithm__shaping_gamma="0.3")
    assert [term.name for term in srft.terms] == ["srft_rollouts", "luffy", "srft_sft"]
    assert srft.terms[1].algorithm.defaults()["shaping_gamma"] == 0.3
    (mix,) = built("mix_on", method__lone_demonstration="true")
    assert [term.lone for term in mix.terms] == [False, True, False]
    (luffy,) = built("luffy", algorithm__shaping_gamma="0.2", algorithm__entropy_coefficient="0.1")
    assert luffy.terms[1].algorithm.defaults()["shaping_gamma"] == 0.2
    # What both could take is the on-policy algorithm's.
    assert tuple(term.algorithm.entropy_coefficient for term in luffy.terms) == (0.1, 0.0)
    first, second = built("sft_then_grpo", method__first_stage="0.2")
    assert (first.until, second.until) == (0.2, 1.0)
    (table,) = built("soft_table", method__table="[[0, 2], [1, 0]]")
    assert [table.gate(solved=solved, n=8) for solved in (0, 1, 7)] == [(0, 2), (1, 0), (1, 0)]


def test_a_methods_own_options_are_its_own_algorithms() -> None:
    assert built("hpt", algorithm__name="null")[0].terms[0].algorithm.aggregation == "token_sum"
    assert built("hpt", algorithm__name="gspo")[0].terms[0].algorithm.aggregation == "sequence_mean"
    assert built("hpt_gate2")[0].gate(solved=2, n=8) == (0, 1)
    assert built("hpt_gate2", method__gate="rollouts")[0].gate(solved=0, n=8) == (1, 0)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("grpo", {"method__threshold": "1"}, "an option of the gates switch and drop; grpo uses rollouts"),
        ("hpt", {"method__mu_valley": "0.1"}, "method.mu_valley: an option of the method chord_mu; hpt uses switch"),
        ("hpt", {"method__table": "[[0, 1]]"}, "method.table: an option of the gate table; hpt uses switch"),
        ("hpt", {"method__first_stage": "0.5"}, "method.first_stage: hpt has one stage; sft_then_grpo has two"),
        ("hpt", {"method__lone_demonstration": "true"}, "method.lone_demonstration: hpt compares no"),
        ("sft", {"algorithm__offline_name": "luffy"}, "algorithm.offline_name: sft compares no demonstration with"),
        ("srft", {"algorithm__offline_name": "lufy"}, "unknown algorithm 'lufy'; did you mean 'luffy'"),
        ("chord_mu", {"method__mu_warmup_share": "0.6"}, "pass the run's end"),
        ("hpt", {"method__gate": "swich"}, "unknown gate 'swich'; did you mean 'switch'?"),
        ("hpt", {"method__threshold": "1.5"}, "a gate's threshold is a count of solved rollouts or a rate"),
        ("hpt", {"algorithm__gae_lambda": "0.5"}, "algorithm 'dr_grpo' has no option 'gae_lambda'"),
        ("grpo", {"algorithm__kl_estimator": "k1"}, "nothing in grpo reads it while algorithm.kl_coefficient is 0.0"),
        (
            "grpo",
            {"algorithm__kl_estimator": "k2", "algorithm__kl_coefficient": "0.1", "algorithm__kl_clamp": "3"},
            "algorithm.kl_clamp: nothing in grpo reads it while algorithm.kl_estimator is k2",
        ),
        (
            "luffy",
            {"algorithm__name": "grpo", "algorithm__normalise_std": "false", "algorithm__std_ddof": "0"},
            "algorithm.std_ddof: nothing in luffy reads it while algorithm.normalise_std is false",
        ),
        (
            "grpo",
            {"algorithm__name": "grpo", "algorithm__constant_length": "9"},
            "algorithm.constant_length: nothing in grpo reads it while algorithm.aggregation is sequence_mean",
        ),
        ("sft", {"algorithm__kl_reward_coefficient": "1"}, "nothing in sft reads how large a reward is (sft)"),
        (
            "hpt",
            {"algorithm__name": "reinforce", "algorithm__kl_reward_coefficient": "1"},
            "nothing in hpt reads how large a reward is (reinforce and sft); the nearest that acts is algorithm.kl",
        ),
    ],
)  # fmt: skip
def test_what_goes_nowhere_is_said(method: str, options: dict[str, str], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=re.escape(message)):
        built(method, **options)


@pytest.mark.parametrize("method", ["luffy", "off_on", "mix_on", "soft_mix", "soft_off"])
def test_options_of_the_group_reach_all_that_compare_in_it(method: str) -> None:
    options = {"algorithm__std_ddof": "0", "algorithm__std_epsilon": "0.5", "algorithm__kl_reward_coefficient": "5"}
    (stage,) = built(method, algorithm__name="grpo", **options)
    grouped = [term.algorithm.defaults() for term in stage.terms if term.compared == "both"]
    assert [(each["std_ddof"], each["std_epsilon"]) for each in grouped] == [(0, 0.5)] * 2
    assert (stage.kl_reward_coefficient, stage.needs) == (5, {"reference_logp"})


def test_a_reference_is_asked_for_only_where_something_reads_it() -> None:
    (sft,) = built("sft", algorithm__kl_coefficient="0.1")
    assert sft.terms[1].algorithm.needs == sft.needs == {"reference_logp"}
    first, second = built("sft_then_grpo", algorithm__kl_reward_coefficient="0.1")
    assert (first.kl_reward_coefficient, first.needs) == (0, frozenset())
    assert (second.kl_reward_coefficient, second.needs) == (0.1, {"reference_logp"})
