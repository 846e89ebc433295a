"""The methods are data: what each declares, and that its parts exist and fit."""

from __future__ import annotations

import pytest

from unigrad.estimator import algorithm_names
from unigrad.hybrid import METHODS, gate, method
from unigrad.hybrid.gates import AUTHORS_TABLE, GATES
from unigrad.hybrid.schedules import averaged, constant, cosine_mu, own, shuffled

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
    assert {name for name, each in METHODS.items() if each.follows_progress} == {"sft_then_grpo", "chord_mu"}


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


@pytest.mark.parametrize(
    ("progress", "expected"),
    # Up in a straight line over the first 0.2; then half a cosine: a third of it down is a quarter of the fall.
    [(0.0, 0.0), (0.05, 0.2), (0.1, 0.4), (0.2, 0.8), (0.4, 0.65), (0.5, 0.5), (0.6, 0.35), (0.8, 0.2), (0.99, 0.2)],
)
def test_mu_warms_up_then_falls_along_a_cosine(progress: float, expected: float) -> None:
    schedule = cosine_mu(mu_peak=0.8, mu_valley=0.2, mu_warmup_share=0.2, mu_decay_share=0.6)
    assert schedule(progress) == pytest.approx((1 - expected, expected), abs=1e-12)


def test_mu_has_the_published_peak_and_valley() -> None:
    assert cosine_mu()(0.0) == pytest.approx((0.1, 0.9), abs=1e-12)
    assert cosine_mu()(0.25) == pytest.approx((0.525, 0.475), abs=1e-12)
    assert cosine_mu()(0.499)[1] > 0.05
    assert cosine_mu()(0.5) == cosine_mu()(0.9) == (0.95, 0.05)
    # Without a fall μ is the valley's from the start; with one over the whole run it fits beside no warm-up.
    assert cosine_mu(mu_decay_share=0)(0.0) == (0.95, 0.05)
    assert cosine_mu(mu_peak=1, mu_valley=0, mu_decay_share=1)(0.5) == pytest.approx((0.5, 0.5), abs=1e-12)
    assert cosine_mu(mu_warmup_share=1, mu_decay_share=0)(0.5) == pytest.approx((0.55, 0.45), abs=1e-12)
    assert constant()(0.7) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["mu_peak", "mu_valley", "mu_warmup_share", "mu_decay_share"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_mu_outside_its_bounds(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"lie in \[0, 1\], not .*{value}"):
        cosine_mu(**{name: value})
    with pytest.raises(ValueError, match=r"mu_warmup_share \(0.6\) and mu_decay_share \(0.5\) pass the run's end"):
        cosine_mu(mu_warmup_share=0.6)


def test_the_two_published_chords() -> None:
    """CHORD-μ mixes plain SFT in by a falling μ; CHORD-φ weighs tokens, under a constant small μ."""
    (by_mu,), (by_phi,) = METHODS["chord_mu"].stages, METHODS["chord_phi"].stages
    assert [term.name for term in by_mu.terms] == ["grpo", "sft"]
    assert (by_mu.gate, by_mu.schedule) == ("both", cosine_mu)
    assert [term.name for term in by_phi.terms] == ["grpo", "chord_phi"]
    assert by_phi.schedule is constant
    weigh = gate(by_phi.gate, **by_phi.gate_options)
    assert [weigh(solved=solved, n=8) for solved in (0, 8)] == [(0.9, 0.1)] * 2
    assert {stage.terms[1].algorithm.aggregation for stage in (by_mu, by_phi)} == {"token_mean"}


# Row by row, what the authors' `soft_type` tables give 1, 2, … solved of a group that holds its demonstration.
SOFT = {
    "soft_table": [(0, 1), (1 / 8, 1 / 2), (1 / 4, 1 / 4), (1 / 2, 1 / 8), (1, 0), (1, 0), (1, 0), (1, 0)],
    "soft_off": [(0, 1, 1), (1 / 8, 1, 1 / 2), (1 / 4, 1, 1 / 4), (1 / 2, 1, 1 / 8), *[(1, 1, 0)] * 4],
    "soft_mix": [(0, 0, 1), (1 / 8, 1 / 2, 1 / 2), (1 / 4, 1, 1 / 4), (1 / 2, 1 / 2, 1 / 8), (1, 1 / 4, 0),
                 (1, 1 / 8, 0), (1, 0, 0), (1, 0, 0)],
}  # fmt: skip


@pytest.mark.parametrize("name", SOFT)
def test_the_authors_tables_entry_by_entry(name: str) -> None:
    (stage,) = METHODS[name].stages
    weigh = gate(stage.gate, **stage.gate_options)
    assert [weigh(solved=solved, n=8) for solved in range(8)] == SOFT[name]


def test_mix_on_is_a_tenth_of_sft() -> None:
    (stage,) = METHODS["mix_on"].stages
    assert [(term.name, term.members, term.compared, term.coefficient) for term in stage.terms] == [
        ("grpo", "rollouts", "both", 1.0),
        ("luffy", "demonstrations", "both", 1.0),
        ("sft", "demonstrations", "demonstrations", 0.1),
    ]


def test_what_is_settled_across_a_step() -> None:
    decided = [(0.0, 1.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]
    assert own(decided, 0) == decided
    assert sorted(shuffled(decided, 1)) == sorted(decided)
    assert averaged(decided, 0) == [(0.75, 0.25)] * 4


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown method 'lufy'; did you mean 'luffy'"):
        method("lufy")
