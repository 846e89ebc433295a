"""The methods are data: what each declares, and that its parts exist and fit."""

from __future__ import annotations

import pytest

from unigrad.estimator import algorithm_names
from unigrad.hybrid import METHODS, gate, method
from unigrad.hybrid.gates import AUTHORS_TABLE, GATES
from unigrad.hybrid.schedules import averaged, constant, mu, own, shuffled

PAPER = {
    "Table 2 and 3": ("sft", "grpo", "sft_then_grpo", "luffy", "srft", "hpt"),
    "Table 5": ("hpt", "off_on", "mix_on"),
    "Table 6": ("hpt", "hpt_gate1", "hpt_gate2"),
}


def test_every_training_method_of_the_papers_tables_is_there() -> None:
    assert {name for names in PAPER.values() for name in names} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_declaration_names_parts_that_exist_and_stages_that_fill_the_run(name: str) -> None:
    assert METHODS[name].name == name
    assert sum(stage.share for stage in METHODS[name].stages) == 1
    for stage in METHODS[name].stages:
        assert stage.gate in GATES
        assert {term.name for term in stage.terms} <= set(algorithm_names())
        # A stage that samples nothing must not want rollouts to train on.
        assert stage.samples or gate(stage.gate, **stage.gate_options)(solved=0, n=8)[0] == 0


def test_the_ablations_change_one_thing() -> None:
    (hpt,) = METHODS["hpt"].stages
    for name, changed in {
        "off_on": {"terms"},
        "mix_on": {"terms"},
        "hpt_gate1": {"gate_options"},
        "hpt_gate2": {"gate_options"},
        "random_gate": {"across"},
        "constant_mix": {"across"},
        "drop_failed": {"gate"},
        "always_both": {"gate", "gate_options"},
        "soft": {"gate", "gate_options"},
    }.items():
        (stage,) = METHODS[name].stages
        assert {key for key in vars(hpt) if getattr(stage, key) != getattr(hpt, key)} == changed


def test_who_depends_on_the_length_of_the_run() -> None:
    assert {name for name, each in METHODS.items() if each.follows_progress} == {"sft_then_grpo", "chord"}


def test_soft_feedback_is_monotone() -> None:
    """Eq. 9: f does not fall and g does not rise with P."""
    for chosen in (gate("linear"), gate("table"), gate("switch", threshold=2)):
        pairs = [chosen(solved=solved, n=8) for solved in range(9)]
        assert [alpha for alpha, _ in pairs] == sorted(alpha for alpha, _ in pairs)
        assert [beta for _, beta in pairs] == sorted((beta for _, beta in pairs), reverse=True)


def test_the_authors_table_counts_rollouts_alone() -> None:
    """Theirs counts the demonstration too: 1 there is no solved rollout."""
    assert [gate("table")(solved=solved, n=8) for solved in (0, 1, 4, 8)] == [
        AUTHORS_TABLE[0],
        AUTHORS_TABLE[1],
        AUTHORS_TABLE[4],
        AUTHORS_TABLE[4],
    ]


def test_mu_falls_linearly_and_stays() -> None:
    schedule = mu(mu_start=0.9, mu_end=0.1, mu_share=0.5)
    for progress, expected in ((0.0, 0.9), (0.25, 0.5), (0.5, 0.1), (0.99, 0.1)):
        assert schedule(progress) == pytest.approx((1 - expected, expected), abs=1e-15)
    assert mu(mu_share=0)(0.0) == pytest.approx((0.95, 0.05))
    assert constant()(0.7) == (1.0, 1.0)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], not 1.5"):
        mu(mu_start=1.5)


def test_what_is_settled_across_a_step() -> None:
    decided = [(0.0, 1.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]
    assert own(decided, 0) == decided
    assert sorted(shuffled(decided, 1)) == sorted(decided)
    assert averaged(decided, 0) == [(0.75, 0.25)] * 4


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown method 'lufy'; did you mean 'luffy'"):
        method("lufy")
